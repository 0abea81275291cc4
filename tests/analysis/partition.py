"""What holds of the blocks of any model."""

from __future__ import annotations

import onnx_ir as ir

from optc.analysis.blocks import Blocks


def check_partition(model: ir.Model, blocks: Blocks) -> None:
    """Every node is in one part, and the blocks of a stream follow each other from entry to exit."""
    grouped = [*blocks.prologue, *blocks.epilogue, *(node for block in blocks.blocks for node in block.nodes)]
    assert sorted(map(id, grouped)) == sorted(map(id, model.graph))
    for stream in blocks.streams:
        mine = [b for b in blocks.blocks if b.entry in stream and b.exit in stream]
        assert [block.exit for block in mine] == list(stream[1:])
        assert [block.entry for block in mine] == list(stream[:-1])
