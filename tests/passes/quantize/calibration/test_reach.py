"""Ranges leave room for samples that calibration did not see, by how those differ that it saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import Reach
from optc.passes.quantize.static.grids import seen

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[4] x) => (float[4] y) <float low = {-1.0}, float high = {6.0}>
{ r = Relu(x)  c = Clip(x, low, high)  y = Add(r, c) }"""


def reach(lows: Sequence[float], highs: Sequence[float]) -> Reach:
    probe = Reach()
    for low, high in zip(lows, highs, strict=True):
        probe.update([np.array(low, np.float32), np.array(high, np.float32)])
    return probe


def test_ends_that_agree_get_no_room_and_those_that_differ_do() -> None:
    highs = [4.0, 5.0, 6.0, 5.0, 4.0, 6.0]
    below, above = reach([-2.0] * 6, highs).beyond
    assert below == 1.0
    deviation = np.std(highs, ddof=1) * np.sqrt(7 / 6)
    assert above == pytest.approx((5 + 2.5 * deviation) / 6)


def test_one_sample_tells_nothing_and_few_do_not_tell_that_there_is_no_end() -> None:
    assert reach([-1.0], [3.0]).beyond == (1.0, 1.0)
    assert reach([-1.0, -9.0], [3.0, 3.0]).beyond == (1.5, 1.0)
    assert reach([0.0, 1.0], [2.0, 2.0]).beyond == (1.0, 1.0), "nothing below zero"


@pytest.mark.parametrize("how", ["minmax", "mse"])
def test_room_ends_where_the_value_ends(how: str) -> None:
    """So a Relu or Clip still goes into the grid behind it."""
    model = ir.from_onnx_text(TEXT)
    sizes = [3.0, 4.0, 5.0, 5.5]
    samples: list[Feeds] = [{"x": np.float32([size, -size, 1, 0])} for size in sizes]
    values = [model.graph.inputs[0], *(value for node in model.graph for value in node.outputs)]
    ranges = seen(model, values[:3], samples, how, Context(target=registry.find_target("cpu")))
    x, relu, clip = (ranges[value] for value in values[:3])
    assert x[0] < -6 and x[1] > 6
    assert relu[0] == 0.0 and relu[1] > 6
    assert clip == (-1.0, 6.0)
