"""What can be removed: whole blocks, or their attention or MLP halves, where identity fits in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from optc.analysis.blocks import Block, ends_of, find_blocks, layers_of
from optc.analysis.padding import mask_inputs
from optc.match import is_constant, is_op
from optc.passbase import Skip
from optc.subgraphs import subgraphs


@dataclass(frozen=True, eq=False)
class Site:
    """A removable piece; values are named, because removal also works on copies of the model.

    Attributes:
        block: index of the block that it is, or is part of.
        layer: its place, from 0, among the layers of its stream.
        stream: which residual stream it is on.
        entry, exit: the values before and after; without the piece, exit is entry.
        term: the piece is one term of a sum (attention and MLP side by side): removing it drops the term.
        nodes: what computes exit from entry.
        protected: the first or last block of its stream.
    """

    label: str
    block: int
    layer: int
    stream: int
    entry: str
    exit: str
    term: bool
    nodes: tuple[ir.Node, ...]
    protected: bool = False


def find_sites(model: ir.Model, scope: str) -> tuple[list[Site], list[Skip]]:
    """Returns the removable pieces of a plain graph, in graph order, and why others are not.

    Args:
        scope: "block", "attention" or "mlp".
    """
    blocks = layers_of(find_blocks(model).blocks)
    ends, places = ends_of(blocks), _places(blocks)
    sites, skips = [], []
    for block in blocks:
        for label, piece in _pieces(block, scope):
            if (reason := _why_not(piece)) is not None:
                skips.append(Skip(label, f"not removable: {reason}"))
                continue
            sites.append(
                Site(
                    label,
                    block.index,
                    places[block],
                    block.stream,
                    str(piece.entry.name),
                    str(piece.exit.name),
                    piece.term,
                    piece.nodes,
                    block in ends,
                )
            )
    return sites, skips


def masks_of(sites: Sequence[Site]) -> list[str]:
    """The inputs that may say which tokens are padding, by name."""
    return mask_inputs(sites[0].nodes, {site.entry for site in sites}) if sites else []


@dataclass(frozen=True, eq=False)
class _Piece:
    entry: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]
    term: bool


def _places(blocks: Sequence[Block]) -> dict[Block, int]:
    seen: Counter[int] = Counter()
    places = {}
    for block in blocks:
        places[block] = seen[block.stream]
        seen[block.stream] += 1
    return places


def _pieces(block: Block, scope: str) -> Iterator[tuple[str, _Piece]]:
    label = f"block {block.index}"
    if scope == "block":
        yield label, _Piece(block.entry, block.exit, block.nodes, term=False)
        return
    parts = [part for part in block.parts if part.kind == scope]
    for number, part in enumerate(parts):
        name = f"{label} {scope}" if len(parts) == 1 else f"{label} {scope} {number}"
        exit, biases = _with_bias(part.exit) if block.parallel else (part.exit, ())
        nodes = _with_helpers((*part.nodes, *biases), block.nodes)
        yield name, _Piece(part.entry, exit, nodes, term=block.parallel)


def _with_bias(term: ir.Value) -> tuple[ir.Value, tuple[ir.Node, ...]]:
    """A term with the constants that are added to nothing else."""
    added: list[ir.Node] = []
    while len(uses := tuple(term.uses())) == 1 and is_op(node := uses[0].node, "Add"):
        if not is_constant(node.inputs[1 - uses[0].idx]):
            break
        added.append(node)
        term = node.outputs[0]
    return term, tuple(added)


def _with_helpers(nodes: Sequence[ir.Node], around: Sequence[ir.Node]) -> tuple[ir.Node, ...]:
    """The nodes of a part and those that serve only them (conditions, constants), in graph order."""
    own = _with_subgraphs(nodes)
    for node in reversed(around):
        uses = [use.node for value in node.outputs for use in value.uses()]
        kept = any(value.is_graph_output() for value in node.outputs)
        if uses and not kept and own.issuperset(uses):
            own.add(node)
    return tuple(node for node in around if node in own)


def _why_not(piece: _Piece) -> str | None:
    if piece.term:
        if _sum_of(piece.exit) is None:
            return f"its result {piece.exit.name!r} is not one term of a sum"
    elif not _same_shape(piece.entry, piece.exit):
        return f"its result has the shape {piece.exit.shape}, what goes in has {piece.entry.shape}"
    own = _with_subgraphs(piece.nodes)
    for node in piece.nodes:
        for value in node.outputs:
            if value is piece.exit:
                continue
            if value.is_graph_output():
                return f"{value.name!r} inside it is an output of the model"
            if any(use.node not in own for use in value.uses()):
                return f"{value.name!r} inside it is read elsewhere"
    return None


def _with_subgraphs(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    inner = (node for owner in nodes for _, body in subgraphs(owner) for node in body.all_nodes())
    return {*nodes, *inner}


def _sum_of(term: ir.Value) -> ir.Node | None:
    """The addition whose value stays in shape when the term is dropped, if it is the term's only reader."""
    uses = tuple(term.uses())
    if len(uses) != 1 or term.is_graph_output():
        return None
    node = uses[0].node
    if not is_op(node, "Add"):
        return None
    other = node.inputs[1 - uses[0].idx]
    return node if other is not None and _same_shape(other, node.outputs[0]) else None


def _same_shape(one: ir.Value, other: ir.Value) -> bool:
    if one.shape is None or other.shape is None or one.dtype != other.dtype:
        return False
    dims = list(zip(one.shape, other.shape, strict=False))
    known = all(not isinstance(a, ir.SymbolicDim) or a.value is not None for a, _ in dims)
    return known and len(one.shape) == len(other.shape) and all(a == b for a, b in dims)
