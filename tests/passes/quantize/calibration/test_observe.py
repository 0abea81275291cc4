"""All probes see their values in one run per sample, and nothing is kept from one sample to the next."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Feeds
from optc.passes.quantize.calibration import Distribution, Extremes, Mean, observe

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 10, opset_import: ["": %d]>
g (float[N,3,4] x) => (float[N,3,4] y) <float[4] w = {1.0, -2.0, 3.0, 4.0}> { a = Relu(x)  y = Mul(a, w) }"""


def model(opset: int = 20, text: str = TEXT) -> ir.Model:
    made = ir.from_onnx_text(text % opset)
    shapes.infer(made)
    return made


def samples(count: int, size: int = 2) -> Iterator[Feeds]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {"x": rng.normal(size=(size, 3, 4)).astype(np.float32)}


@pytest.mark.parametrize("opset", [13, 20])
def test_statistics_are_those_of_numpy(opset: int) -> None:
    every = np.concatenate([feeds["x"] for feeds in samples(5)])
    a = np.maximum(every, 0)
    whole, channels, last, mean, x = Extremes(), Extremes(1), Extremes(-1), Mean(1), Distribution()
    seen = observe(model(opset), {"a": [whole, channels, mean], "y": [last], "x": [x]}, samples(5))
    assert seen == 5
    assert (whole.low, whole.high) == (a.min(), a.max())
    assert np.array_equal(channels.high, a.max(axis=(0, 2)))
    assert np.array_equal(channels.magnitude, a.max(axis=(0, 2)))
    y = a * np.array([1, -2, 3, 4], np.float32)
    assert np.array_equal(last.low, y.min(axis=(0, 1))) and np.array_equal(last.high, y.max(axis=(0, 1)))
    assert np.allclose(mean.mean, a.mean(axis=(0, 2)), rtol=1e-6)
    assert int(x.histogram.counts.sum()) == every.size and x.histogram.high == every.max()


def test_the_model_is_not_changed() -> None:
    made = model()
    before = ir.to_proto(made).SerializeToString()
    observe(made, {"a": [Extremes(), Extremes(0)]}, samples(1))
    assert ir.to_proto(made).SerializeToString() == before


def test_half_precision_is_observed_as_float() -> None:
    text = """<ir_version: 10, opset_import: ["": %d]>
    g (float16[N,3,4] x) => (float16[N,3,4] y) { y = Neg(x) }"""
    low, histogram = Extremes(), Distribution()
    feeds = [{"x": feeds["x"].astype(np.float16)} for feeds in samples(2)]
    observe(model(20, text), {"y": [low, histogram]}, feeds)
    assert low.low == -max(float(f["x"].max()) for f in feeds) == histogram.histogram.low


def test_infinite_values_are_noticed() -> None:
    probe = Extremes()
    observe(model(), {"a": [probe]}, [{"x": np.full((1, 3, 4), np.inf, np.float32)}])
    assert not probe.finite
    assert not Extremes().finite  # nothing was seen


def test_memory_does_not_grow_with_the_samples() -> None:
    made = model()

    def peak(count: int) -> int:
        probes = {"a": [Extremes(), Distribution()], "y": [Extremes(1), Mean(1), Distribution()]}
        tracemalloc.start()
        observe(made, probes, samples(count, size=2000))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    one_sample = 2000 * 3 * 4 * 4
    assert peak(60) < peak(6) + one_sample


def test_progress_is_shown_once_per_sample() -> None:
    seen: list[str] = []

    def progress(items: Iterable[Feeds], description: str) -> Iterator[Feeds]:
        for item in items:
            seen.append(description)
            yield item

    observe(model(), {"a": [Extremes()]}, samples(3), progress=progress)
    assert seen == ["calibrating"] * 3


def test_a_sample_that_does_not_fit_is_named() -> None:
    bad = [*samples(1), {"x": np.zeros((2, 5, 4), np.float32)}]
    with pytest.raises(UserError, match="calibration sample 1"):
        observe(model(), {"a": [Extremes()]}, bad)
