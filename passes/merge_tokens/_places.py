"""Where tokens can become fewer: between attention and MLP of a block, where what follows goes along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from optc import match, rewrite
from optc.analysis.axes import Followed, follow
from optc.analysis.axes_layout import Layout, Role, start
from optc.analysis.axes_rules import ATTENTIONS
from optc.analysis.blocks import Block, find_blocks, layers_of
from optc.passbase import Skip

from ._masks import MEANINGS, meaning

_ORDERS: tuple[tuple[Role, ...], ...] = (("batch", "token", ""), ("token", "batch", ""), ("token", ""))


@dataclass(frozen=True, eq=False)
class Place:
    """Between the attention and the MLP of a layer.

    Attributes:
        layer: its number, from 0, among the layers of the stream.
        queries, keys: of its attention, [batch, heads, tokens, size]; keys say what is alike.
        mask: of its attention, if it has one.
        scale: of its attention.
        tokens: the value to reduce, of rank 3 (or 2, without a batch).
    """

    layer: int
    block: int
    queries: ir.Value
    keys: ir.Value
    mask: ir.Value | None
    scale: float
    tokens: ir.Value


@dataclass(frozen=True, eq=False)
class Stream:
    """One residual stream with the places on it; ``entry`` is what its first layer reads."""

    entry: ir.Value
    layout: Layout
    followed: Followed
    places: tuple[Place, ...]
    layers: int


def find_streams(model: ir.Model) -> tuple[list[Stream], list[Skip]]:
    """Returns the streams whose tokens can be reduced, and why other layers cannot.

    Attention must have been outlined, and shapes inferred.
    """
    blocks = [block for block in layers_of(find_blocks(model).blocks) if block.kind == "transformer"]
    streams, skips = [], list[Skip]()
    for number in dict.fromkeys(block.stream for block in blocks):
        layers = [block for block in blocks if block.stream == number]
        stream, refused = _stream(model.graph, layers)
        skips += refused
        if stream is not None and stream.places:
            streams.append(stream)
    return streams, skips


def _stream(graph: ir.Graph, layers: Sequence[Block]) -> tuple[Stream | None, list[Skip]]:
    found = _followed(graph, layers)
    if found is None:
        entry = layers[0].entry
        why = f"no axis of {entry.name!r}, of the shape {entry.shape}, is known to run over tokens"
        return None, [Skip(f"block {layers[0].index}", f"tokens kept: {why}")]
    layout, followed = found
    places, skips = list[Place](), list[Skip]()
    for number, block in enumerate(layers):
        place = _place(number, block, followed)
        lost = next((followed.mixed[node] for node in block.nodes if node in followed.mixed), None)
        if isinstance(place, str) or lost is not None or block.exit not in followed.layouts:
            why = place if isinstance(place, str) else lost or "it does not hand the tokens on"
            skips += [
                Skip(f"block {p.block}", f"tokens kept: block {block.index} needs them: {why}")
                for p in places
            ]
            skips.append(Skip(f"block {block.index}", f"tokens kept: {why}"))
            places = []
        else:
            places.append(place)
    return Stream(layers[0].entry, layout, followed, tuple(places), len(layers)), skips


def _followed(graph: ir.Graph, layers: Sequence[Block]) -> tuple[Layout, Followed] | None:
    """The reading of the stream's axes in which the attentions run over the tokens, if there is one."""
    tried = list[tuple[int, Layout, Followed]]()
    for order in _ORDERS:
        layout = start(layers[0].entry, order)
        if layout is None:
            continue
        followed = follow(graph, layers[0].entry, layout)
        understood = sum(node in followed.steps for block in layers for node in _attentions(block))
        tried.append((understood, layout, followed))
    if not tried:
        return None
    best = max(tried, key=lambda each: each[0])
    return best[1], best[2]


def _attentions(block: Block) -> Iterator[ir.Node]:
    return (node for node in block.nodes if rewrite.kind(node) in ATTENTIONS)


def _place(number: int, block: Block, followed: Followed) -> Place | str:
    """The place in a block, or why there is none."""
    first = next((followed.mixed[node] for node in block.nodes if node in followed.mixed), None)
    calls = list(_attentions(block))
    if not calls:
        return first or "it has no attention that is understood"
    for call in calls:
        if call not in followed.steps:
            return followed.mixed.get(call) or first or "its attention does not run over the tokens"
        if call.inputs[1] in followed.layouts:
            means = meaning(call.inputs[3] if len(call.inputs) > 3 else None)
            if means not in MEANINGS:
                return means
            if means == "padding" and _is_shared(call, followed):
                return "one mask of padding for all samples is not understood"
    call = calls[0]
    if not all(value in followed.layouts for value in call.inputs[:3] if value is not None):
        return "its attention is not over its own tokens"
    part = block.mlp
    if part is None or part.kind != "mlp":
        return "it has no MLP after the attention"
    point = block.exit if block.parallel else part.entry
    if point not in followed.layouts or not _is_plain(followed.layouts[point]):
        return first or f"the axes of {point.name!r} are not batch, tokens and width"
    if point is block.entry:
        return "its MLP comes before its attention"
    queries, keys = call.inputs[:2]
    assert queries is not None and keys is not None
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    return Place(number, block.index, queries, keys, mask, call.attributes["scale"].as_float(), point)


def _is_plain(layout: Layout) -> bool:
    return len(layout.groups) in (2, 3) and all(len(group) == 1 for group in layout.groups)


def _is_shared(call: ir.Node, followed: Followed) -> bool:
    """Whether an attention over several samples has one mask."""
    keys, mask = call.inputs[1], call.inputs[3]
    assert keys is not None
    batch = followed.layouts[keys].axis("batch")
    return batch is not None and match.dim(keys, batch) != 1 and match.dim(mask, -4) in (None, 1)
