"""What is expected of data that nothing was fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Feeds
from optc.passes.quantize.choice.judge import Found, Judge, shuffled, spread

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
MODEL = ir.from_onnx_text(HEADER + "g (float[n] x) => (float[n] y) { y = Neg(x) }")


def off_by(factor: float) -> ir.Model:
    """Wrong by ``factor`` where the input is positive."""
    text = f"""g (float[n] x) => (float[n] y) <float f = {{{factor}}}>
        {{ r = Relu(x)  e = Mul(r, f)  s = Neg(x)  y = Add(s, e) }}"""
    return ir.from_onnx_text(HEADER + text)


def judge(samples: list[Feeds], **limits: Any) -> Judge:
    return Judge(MODEL, samples, Context(target=registry.find_target("cpu"), **limits))


def alike(count: int) -> list[Feeds]:
    return [{"x": np.float32([3, 4])} for _ in range(count)]


@pytest.mark.parametrize(("count", "expected"), [(1, 0.15), (4, 0.15), (16, 0.1125), (100, 0.105)])
def test_the_fewer_samples_the_more_room_is_left(count: int, expected: float) -> None:
    found = judge(alike(count), max_error=1.0).of(off_by(0.1))
    assert found.rel_l2 == pytest.approx(0.1, rel=1e-5)
    assert found.expected == pytest.approx(expected, rel=1e-5)


def test_samples_that_differ_in_their_errors_leave_more_room() -> None:
    """Errors of 0.1 and 0: of 16 samples, 4 more would be kept back, and their mean varies as much."""
    mixed = [{"x": np.float32([3, 4]) * (-1) ** i} for i in range(16)]
    found = judge(mixed, max_error=1.0).of(off_by(0.1))
    deviation = 0.05 * np.sqrt(16 / 15)
    assert found.rel_l2 == pytest.approx(0.1 / np.sqrt(2), rel=1e-5)
    assert found.expected == pytest.approx(found.rel_l2 * 1.125 + 2 * deviation / 2, rel=1e-4)


def test_both_limits_hold() -> None:
    held = judge(alike(1), max_error=0.1, metric=lambda run: 1.0, max_drop=0.5)
    assert held.allows(Found(0.08, 0.1, 0.5))
    assert not held.allows(Found(0.08, 0.11, 0.5)) and not held.allows(Found(0.08, 0.1, 0.6))
    assert not held.allows(Found(float("nan"), float("nan"), 0.0))
    assert held.only_metric_fails(Found(0.08, 0.1, 0.6)) and not held.only_metric_fails(Found(0.08, 0.2, 0.6))


def test_the_drop_of_the_metric_is_taken() -> None:
    held = judge(alike(1), metric=lambda run: float(run({"x": np.float32([1])})["y"][0]), max_drop=0.5)
    found = held.of(off_by(-0.25))
    assert found.drop == pytest.approx(0.25) and held.allows(found)


def test_without_limits_or_samples_nothing_is_judged() -> None:
    assert not judge(alike(1)).judges
    assert not judge([], max_error=0.1).judges
    assert judge(alike(1), max_error=0.1).judges


def test_samples_are_taken_from_all_over() -> None:
    samples: list[Feeds] = [{"x": i} for i in range(100)]
    assert [feeds["x"] for feeds in spread(samples, 4)] == [0, 25, 50, 75]
    assert spread(samples, 100) is samples


def test_tokens_of_an_example_come_in_other_orders_and_nothing_else_does() -> None:
    ids, steps = np.array([[7, 3, 9, 3, 5, 2, 8, 1]]), np.arange(8)[None]
    feeds: Feeds = {
        "ids": ids,
        "positions": steps,
        "mask": np.ones((1, 8), np.int64),
        "x": np.float32([2, 1]),
    }
    made = shuffled(feeds)
    assert len(made) == 3 and all(not np.array_equal(other["ids"], ids) for other in made)
    for other in made:
        assert np.array_equal(np.sort(other["ids"]), np.sort(ids))
        assert all(other[name] is feeds[name] for name in ("positions", "mask", "x"))
    assert shuffled({"ids": ids, "mask": np.array([[1, 1, 1, 1, 1, 0, 0, 0]])}) == []
    assert shuffled({"x": np.float32([[2, 1]])}) == []


def test_without_calibration_data_other_orders_count() -> None:
    """A model that is wrong where the first token is not 7."""
    text = """g (int64[1,n] x) => (float[n] y) <int64[1] shape = {-1}, int64 one = {1}>
        { f = Cast <to=1> (x)  y = Reshape(f, shape) }"""
    wrong = """g (int64[1,n] x) => (float[n] y)
        <int64[1] shape = {-1}, int64 first = {0}, float seven = {7.0}>
        { f = Cast <to=1> (x)  r = Reshape(f, shape)  h = Gather(r, first)  d = Sub(h, seven)
          y = Add(r, d) }"""
    plain, other = (ir.from_onnx_text(HEADER + each) for each in (text, wrong))
    samples: list[Feeds] = [{"x": np.array([[7, 3, 9, 3, 5, 2, 8, 1]])}]
    cpu = registry.find_target("cpu")
    assert Judge(plain, samples, Context(target=cpu, max_error=0.1)).of(other).rel_l2 > 0.1
    assert (
        Judge(plain, samples, Context(target=cpu, max_error=0.1, calibration=samples)).of(other).rel_l2 == 0.0
    )
