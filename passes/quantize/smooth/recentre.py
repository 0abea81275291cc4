"""Channels behind a norm lose what they have in common with themselves: the middle of their range.

One grid serves all channels of an input. A channel that lies around 5 while the others lie around 0 widens it
for all, though its own range is small. What is subtracted goes out of the norm's addend and, through the
weights, into the biases behind: exact in float. With the ranges evened out as well (alpha = 1) this is the
reparameterization of Li et al., "RepQ-ViT: Scale reparameterization for post-training quantization of vision
transformers", ICCV 2023. At 8 bits alpha = 1 asks too much of the weights (docs/quantization.md), so only the
middles are taken from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optc import match
from optc.newnode import New
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import Extremes, observe
from optc.passes.quantize.static import shift
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.sites import Site

from .groups import Group, groups_of

_WORTH_IT = 0.85  # of the range of all channels must be left at most
_FEWEST = 16  # rows: one channel of one row has no range, and its middle is chance


def recentre(model: ir.Model, sites: Sequence[Site], samples: Iterable[Feeds], ctx: Context) -> int:
    """Moves the channels of inputs to around zero, in place; returns of how many inputs.

    Args:
        model: plain; the sites are products of its main graph, still in float.
        samples: what the ranges of channels are learned from.
    """
    groups = [group for group in groups_of(sites) if _addend(group) is not None and _is_free(group)]
    probes = {str(group.data.name): _Range() for group in groups}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph, count = Graph(model), 0
    for group in groups:
        seen = probes[str(group.data.name)]
        if seen.finite and seen.rows >= _FEWEST and _gain(seen.low, seen.high) < _WORTH_IT:
            _move(group, (seen.low + seen.high) / 2, graph)
            count += 1
    graph.drop_unused()
    return count


class _Range(Extremes):
    """The extremes of each channel (last axis), and in how many rows they were seen."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.rows = 0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """Besides the extremes, the number of elements."""
        return [*super().nodes(value, opset), New("Size", (value,), ir.DataType.INT64, ir.Shape([]))]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds one sample."""
        low, high, size = arrays
        super().update([low, high])
        self.rows += int(size) // max(low.size, 1)


def _gain(low: np.ndarray, high: np.ndarray) -> float:
    """The range of all channels behind the move, over that before it."""
    before = max(float(high.max()), 0.0) - min(float(low.min()), 0.0)
    return float((high - low).max()) / before if before > 0 else 1.0


def _addend(group: Group) -> tuple[ir.Node, int] | None:
    """The node that adds a constant per channel last, and which of its inputs that is."""
    node = group.data.producer()
    width = match.static_dim(group.data, -1)
    if node is None or width is None or not group.is_alone or match.rank(group.data) is None:
        return None
    if match.is_op(node, "LayerNormalization") and group.data is node.outputs[0]:
        rank = match.rank(group.data) or 0
        found = [2] if match.attr_int(node, "axis", -1) % rank == rank - 1 and len(node.inputs) > 2 else []
    elif match.is_op(node, "Add"):
        found = [0, 1]
    else:
        return None
    return next(((node, index) for index in found if _is_vector(node.inputs[index], width)), None)


def _is_vector(value: ir.Value | None, width: int) -> bool:
    return match.is_constant(value) and match.rank(value) == 1 and match.static_dim(value, 0) == width


def _is_free(group: Group) -> bool:
    return all(shift.is_free(site) for site in group.sites)


def _move(group: Group, middle: np.ndarray, graph: Graph) -> None:
    found = _addend(group)
    assert found is not None
    node, index = found
    old, addend = node.inputs[index], match.constant(node.inputs[index])
    assert old is not None and addend is not None
    moved = (addend.astype(np.float64) - middle).astype(addend.dtype)
    node.replace_input_with(index, graph.constant(moved, f"{old.name}_recentred"))
    lost = addend.astype(np.float64) - moved.astype(np.float64)  # what rounding to float32 left of it
    for site in group.sites:
        weight = match.constant(site.weight)
        assert weight is not None
        matrix = weight.T if site.channels == 0 else weight
        shift.shift(site, lost @ matrix.astype(np.float64), graph, "recentred")
