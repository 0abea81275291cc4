"""Where attention probabilities meet values, and which layers could take those of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from optc import match
from optc.analysis.blocks import Block, ends_of, find_blocks, layers_of
from optc.passbase import Skip
from optc.passes.fuse._probabilities import use_of


@dataclass(frozen=True, eq=False)
class Site:
    """One attention.

    Attributes:
        layer: the place, from 0, of its block among the layers of the stream.
        place: its place, from 0, among the attentions of the block (a decoder has two).
        probabilities: [..., queries, keys], after the softmax.
        product: what multiplies them with the values, as its input ``index``.
        block: what it is in.
    """

    layer: int
    place: int
    probabilities: ir.Value
    product: ir.Node
    index: int
    block: Block

    @property
    def label(self) -> str:
        """What people read in the report."""
        second = f", number {self.place + 1} in it" if self.place else ""
        stream = f", stream {self.block.stream}" if self.block.stream else ""
        return f"attention of layer {self.layer}{second}{stream}"


def find_stacks(model: ir.Model, *, protect: bool) -> tuple[list[list[Site]], list[Skip]]:
    """Returns the attentions that may share, and why others may not.

    A stack, in graph order, is of one stream, of one place inside the blocks, and of one shape and type.

    Args:
        protect: leave out the first and last layer of every stream.
    """
    layers = layers_of(find_blocks(model).blocks)
    kept = ends_of(layers) if protect else set()
    stacks: dict[tuple[object, ...], list[Site]] = {}
    skips: list[Skip] = []
    seen: dict[int, int] = {}
    for block in layers:
        layer = seen[block.stream] = seen.get(block.stream, -1) + 1
        for site in () if block in kept else _sites(layer, block):
            if (reason := _why_not(site)) is not None:
                skips.append(Skip(site.label, reason))
                continue
            value = site.probabilities
            stacks.setdefault((block.stream, site.place, str(value.shape), value.dtype), []).append(site)
    return list(stacks.values()), skips


def _sites(layer: int, block: Block) -> Iterator[Site]:
    softmaxes = (node for node in block.nodes if node.op_type == "Softmax")
    uses = [use for node in softmaxes if (use := use_of(node)) is not None and use.dropped is None]
    for place, use in enumerate(uses):
        probabilities = use.product.inputs[use.index]
        assert probabilities is not None
        yield Site(layer, place, probabilities, use.product, use.index, block)


def _why_not(site: Site) -> str | None:
    value = site.probabilities
    if value.is_graph_output():
        return "its probabilities are an output of the model"
    if len(tuple(value.uses())) > 1:
        return "its probabilities have more than one reader"
    dims = [match.dim(value, axis) for axis in range(match.rank(value) or 0)]
    if not dims or not all(match.same_dim(dim, dim) for dim in dims):
        return f"the shape of its probabilities, {value.shape}, is not fully known"
    return None
