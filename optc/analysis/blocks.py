"""Blocks: the residual stream of a network and what repeats along it, found from structure alone.

No names and no model types are consulted. A residual join is an addition whose terms are all computed from
one earlier value (the entry); joins that follow each other form a stream, and what repeats along the stream
are the blocks. Networks without skip connections are cut at the single values that everything runs through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from optc.analysis.flow import Flow, open_graph
from optc.analysis.grouping import EPILOGUE, PROLOGUE, Draft, assign, drafts_of
from optc.analysis.parts import Part, parts_of, real
from optc.analysis.residual import Join, dominators, find_chains, find_joins, kind_of
from optc.analysis.stream import plain_segments, residual_segments


@dataclass(frozen=True, eq=False)
class Block:
    """A repeated piece of the stream; replacing it by identity is rewiring the uses of exit to entry.

    That holds on plain nodes. A fused skip-norm gives the sum and its norm at once, so its node closes one
    block and opens the next: inline the functions before rewiring.

    Attributes:
        index: position in ``Blocks.blocks``.
        kind: "transformer", "conv", "mlp", "recurrent", or "transition" (what lies between two residual
            blocks without a skip connection, such as patch merging or a strided convolution).
        stream: which of ``Blocks.streams`` it belongs to.
        nodes: in graph order; those on the way from entry to exit, and those that serve only this block.
        parts: in stream order.
    """

    index: int
    kind: str
    stream: int
    entry: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]
    parts: tuple[Part, ...]

    @property
    def attention(self) -> Part | None:
        """The first part with attention (self-attention comes before cross-attention), if any."""
        return next((part for part in self.parts if part.kind == "attention"), None)

    @property
    def mlp(self) -> Part | None:
        """The last MLP part, if any."""
        return next((part for part in reversed(self.parts) if part.kind == "mlp"), None)

    @property
    def parallel(self) -> bool:
        """Whether several parts share one skip connection."""
        return len(self.parts) > 1 and all(part.entry is self.entry for part in self.parts)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The whole graph in groups: every node is in the prologue, in one block, or in the epilogue.

    Attributes:
        streams: per residual stream (two in an encoder-decoder) its values: the entry of its first block,
            then the exit of every block.
        blocks: in graph order.
        prologue: embeddings, masks, stems: all that feeds the blocks and is not one.
        epilogue: heads: all that no block needs.
    """

    streams: tuple[tuple[ir.Value, ...], ...]
    blocks: tuple[Block, ...]
    prologue: tuple[ir.Node, ...]
    epilogue: tuple[ir.Node, ...]

    @property
    def stream(self) -> tuple[ir.Value, ...]:
        """The longest stream (the first of equals), empty when there is none."""
        return max(self.streams, key=len, default=())


def find_blocks(model: ir.Model) -> Blocks:
    """Returns the blocks of the main graph; linear in its size. The model is only read.

    Raises:
        InvalidModel: a node reads a value that nothing before it defines.
    """
    flow = open_graph(model)
    idom = dominators(flow)
    joins = find_joins(flow, idom)
    chains = find_chains(joins, idom, len(flow.values))
    streams = [residual_segments(flow, idom, chain) for chain in chains]
    streams = streams or [plain for plain in [plain_segments(flow, idom)] if plain]
    streams.sort(key=lambda segments: segments[0].entry)
    drafts = [draft for index, segments in enumerate(streams) for draft in drafts_of(index, segments)]
    drafts.sort(key=lambda draft: (draft.segments[0].entry, draft.segments[-1].exit))
    groups = assign(flow, drafts, [segments[0].entry for segments in streams])
    members: dict[int, list[ir.Node]] = {}
    for node, group in zip(flow.nodes, groups, strict=True):
        members.setdefault(group, []).append(node)
    on_stream = {join for chain in chains for join in chain}
    inner = [join for join in joins if join not in on_stream]
    blocks = tuple(_block(flow, i, draft, tuple(members.get(i, ())), inner) for i, draft in enumerate(drafts))
    return Blocks(
        streams=tuple(_stream_values(blocks, index) for index in range(len(streams))),
        blocks=blocks,
        prologue=tuple(members.get(PROLOGUE, ())),
        epilogue=tuple(members.get(EPILOGUE, ())),
    )


def layers_of(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of the kind that each stream mostly has: a convolution before a stack of layers is none."""
    kinds: dict[int, Counter[str]] = {}
    for block in blocks:
        if block.kind != "transition":
            kinds.setdefault(block.stream, Counter())[block.kind] += 1
    main = {stream: counted.most_common(1)[0][0] for stream, counted in kinds.items()}
    return [block for block in blocks if block.kind == main.get(block.stream)]


def ends_of(layers: Sequence[Block]) -> set[Block]:
    """The first and the last of every stream."""
    streams = {block.stream for block in layers}
    of = [[block for block in layers if block.stream == stream] for stream in streams]
    return {block for members in of for block in (members[0], members[-1])}


def _block(flow: Flow, index: int, draft: Draft, nodes: tuple[ir.Node, ...], inner: list[Join]) -> Block:
    kinds = {segment.join.kind if segment.join else kind_of(flow, segment.ops) for segment in draft.segments}
    if draft.is_transition:
        kind = "transition"
    elif "attention" in kinds:
        kind = "transformer"
    else:
        kind = next(name for name in ("conv", "recurrent", "mlp") if name in kinds)
    parts = tuple(part for segment in draft.segments for part in parts_of(flow, segment, inner))
    entry, exit = real(flow, draft.segments[0].entry), real(flow, draft.segments[-1].exit)
    return Block(index, kind, draft.stream, entry, exit, nodes, parts)


def _stream_values(blocks: tuple[Block, ...], stream: int) -> tuple[ir.Value, ...]:
    members = [block for block in blocks if block.stream == stream]
    return (members[0].entry, *(block.exit for block in members))
