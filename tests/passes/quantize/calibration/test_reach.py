"""Ranges leave room for samples that calibration did not see, by how those differ that it saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import Reach
from optc.passes.quantize.static import Settings
from optc.passes.quantize.static.grids import seen

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[4] x) => (float[4] y) <float low = {-1.0}, float high = {6.0}>
{ r = Relu(x)  c = Clip(x, low, high)  s = Sigmoid(x)  t = Tanh(x)  y = Sum(r, c, s, t) }"""


MANY, FEW = 10**6, 10  # elements of a sample


def reach(lows: Sequence[float], highs: Sequence[float], elements: int = MANY) -> Reach:
    probe = Reach()
    for low, high in zip(lows, highs, strict=True):
        probe.update([np.array(low, np.float32), np.array(high, np.float32), np.array(elements)])
    return probe


def test_ends_that_agree_get_no_room_and_those_that_differ_do() -> None:
    highs = [4.0, 5.0, 6.0, 5.0, 4.0, 6.0]
    below, above = reach([-2.0] * 6, highs).beyond()
    assert below == 1.0
    student = 2.571 / 1.96  # 0.975 quantiles of 5 degrees of freedom, and of the normal distribution
    deviation = student * np.std(highs, ddof=1) * np.sqrt(7 / 6)
    assert above == pytest.approx((5 + 2.5 * deviation) / 6)


def test_the_fewer_samples_the_more_room_is_left() -> None:
    few, many = (reach([-2.0] * len(highs), highs).beyond()[1] for highs in ([5.0, 6.0] * 2, [5.0, 6.0] * 20))
    assert many < 1.15 < 1.35 < few


def test_one_sample_tells_nothing_and_few_do_not_tell_that_there_is_no_end() -> None:
    assert reach([-1.0], [3.0]).beyond() == (1.0, 1.0)
    assert reach([-1.0, -9.0], [3.0, 3.0]).beyond() == (1.5, 1.0)
    assert reach([-1.0, -9.0], [3.0, 3.0], FEW).beyond() == (2.0, 1.0)
    assert reach([0.0, 1.0], [2.0, 2.0]).beyond() == (1.0, 1.0), "nothing below zero"


def test_more_room_is_for_ends_that_differ() -> None:
    """The input of a network whose pixels always reach white keeps its grid."""
    ends = [-2.0] * 6, [4.0, 5.0, 6.0, 5.0, 4.0, 6.0]
    assert reach(*ends).beyond(1.5) == pytest.approx((1.0, 1.5 * reach(*ends).beyond()[1]))
    assert reach([-1.0], [3.0]).beyond(1.5) == (1.5, 1.5), "one sample does not tell"


def test_where_few_elements_are_rounded_the_end_leaves_what_one_more_sample_is_likely_to_need() -> None:
    """The end is the one that costs least, tried out on samples of the same kind."""
    rng = np.random.default_rng(0)
    highs = rng.gumbel(1.0, 0.1, 100)
    _, room = reach([-10.0] * 100, [float(high) for high in highs], FEW).beyond()
    ends, others = np.linspace(1.0, 3.0, 201), rng.gumbel(1.0, 0.1, 10**5)
    cost = [FEW * ((end + 10) / 255) ** 2 / 12 + (np.maximum(others - end, 0) ** 2).mean() for end in ends]
    assert highs.max() * room == pytest.approx(ends[np.argmin(cost)], rel=0.06)
    assert reach([-10.0] * 100, [float(high) for high in highs], MANY).beyond()[1] < 0.95 * room
    assert (others > highs.max() * room).mean() < 1e-3


def test_the_largest_sample_tells_how_many_elements_are_rounded() -> None:
    """The last batch of a set is often a short one."""
    probe, highs = Reach(), [1.0, 1.1, 1.2, 1.3]
    for high, elements in zip(highs, [FEW, MANY, FEW, FEW], strict=True):
        probe.update([np.float32(-1), np.float32(high), np.array(elements)])
    assert probe.beyond() == reach([-1.0] * 4, highs, MANY).beyond() != reach([-1.0] * 4, highs, FEW).beyond()


@pytest.mark.parametrize("how", ["minmax", "mse"])
def test_room_ends_where_the_value_ends(how: str) -> None:
    """So a Relu or Clip still goes into the grid behind it."""
    model = ir.from_onnx_text(TEXT)
    sizes = [3.0, 4.0, 5.0, 5.5]
    samples: list[Feeds] = [{"x": np.float32([size, -size, 1, 0])} for size in sizes]
    values = [model.graph.inputs[0], *(value for node in model.graph for value in node.outputs)]
    ranges = seen(
        model, values[:5], samples, Settings(calibrate=how), Context(target=registry.find_target("cpu"))
    )
    x, relu, clip, sigmoid, tanh = (ranges[value] for value in values[:5])
    assert x[0] < -6 and x[1] > 1.8 * max(sizes), "four elements: there is little to lose"
    assert relu[0] == 0.0 and relu[1] > 6
    assert clip == (-1.0, 6.0)
    assert sigmoid[0] >= 0.0 and 0.99 < sigmoid[1] <= 1.0
    assert tanh == pytest.approx((-1.0, 1.0), abs=1e-2) and tanh[0] >= -1.0 and tanh[1] <= 1.0
