"""Every way to choose a range against a plain search that shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy as relative_entropy

from optc.passes.quantize.calibration import RANGES, Histogram
from optc.passes.quantize.calibration import entropy as entropy_range

RNG = np.random.default_rng(0)
DATA = {
    "normal": RNG.normal(size=40_000),
    "relu": np.maximum(RNG.normal(size=40_000), 0),
    "heavy tails": RNG.standard_t(3, size=40_000),
    "negative": -RNG.gamma(2.0, size=40_000),
    "outlier": np.append(RNG.normal(size=40_000), 60.0),
}


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(values.astype(np.float32), 7):
        histogram.add(part)
    return histogram


def rounded(values: np.ndarray, low: float, high: float, levels: int = 256) -> np.ndarray:
    scale = (high - low) / (levels - 1)
    zero = np.round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, levels - 1) - zero) * scale


def test_a_range_that_keeps_a_single_bin_or_none_is_the_worst() -> None:
    histogram = histogram_of(DATA["normal"])
    edge = histogram.centers[len(histogram.centers) // 2]
    inside = histogram.width / 4
    for low, high in ((edge - inside, edge + inside), (1e6, 2e6)):
        assert entropy_range.divergence(histogram, low, high, 256) == float("inf")


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_minmax_is_the_range_of_the_values(values: np.ndarray) -> None:
    low, high = RANGES["minmax"](histogram_of(values), 256)
    assert (low, high) == (values.astype(np.float32).min(), values.astype(np.float32).max())


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_percentile_leaves_out_one_in_ten_thousand(values: np.ndarray) -> None:
    histogram = histogram_of(values)
    low, high = RANGES["percentile"](histogram, 256)
    outside = np.mean((values < low - histogram.width) | (values > high + histogram.width))
    assert outside <= 1e-4
    inside = np.mean((values >= low + histogram.width) & (values <= high - histogram.width))
    assert inside <= 1 - 0.5e-4 or values.min() == 0.0 and np.mean(values <= high - histogram.width) <= 0.9999


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_mse_is_near_the_best_of_a_search_over_both_ends(values: np.ndarray) -> None:
    low, high = RANGES["mse"](histogram_of(values), 256)
    found = np.mean((rounded(values, low, high) - values) ** 2)
    ends = np.linspace(0.1, 1.0, 19)
    lows = values.min() * ends if values.min() < 0 else [0.0]
    highs = values.max() * ends if values.max() > 0 else [0.0]
    best = min(np.mean((rounded(values, a, b) - values) ** 2) for a in lows for b in highs)
    assert found <= 1.02 * best
    whole = np.mean((rounded(values, min(values.min(), 0), max(values.max(), 0)) - values) ** 2)
    assert found <= 1.001 * whole


def test_divergence_is_the_relative_entropy_of_the_two_distributions() -> None:
    histogram = Histogram(bins=64)
    histogram.add(np.append(RNG.normal(size=5000), np.zeros(900)).astype(np.float32))
    low, high, levels = -1.5, 2.0, 8
    counts = [float(count) for count in histogram.counts]
    zero = -histogram.first
    counts[zero] = min(counts[zero], max(counts[zero - 1], counts[zero + 1]))
    inside = [i for i, c in enumerate(histogram.centers) if low <= c <= high]
    reference = [counts[i] for i in inside]
    kept = list(reference)
    reference[0] += sum(counts[: inside[0]])
    reference[-1] += sum(counts[inside[-1] + 1 :])
    coarse = [0.0] * len(kept)
    for level in range(levels):
        members = [i for i in range(len(kept)) if i * levels // len(kept) == level]
        occupied = [i for i in members if reference[i] > 0]
        for i in occupied:
            coarse[i] = sum(kept[j] for j in members) / len(occupied)
    where = [i for i, mass in enumerate(reference) if mass > 0]
    expected = relative_entropy([reference[i] for i in where], [max(coarse[i], 1e-4) for i in where])
    assert entropy_range.divergence(histogram, low, high, levels) == pytest.approx(expected, rel=1e-9)


def test_entropy_takes_the_least_divergence_and_clips_tails() -> None:
    histogram = histogram_of(DATA["heavy tails"])
    low, high = RANGES["entropy"](histogram, 256)
    assert 0 < high < 0.9 * histogram.high and 0.9 * histogram.low < low < 0
    shrinks = np.linspace(1.0, 0.1, 91)
    found = entropy_range.divergence(histogram, low, high, 256)
    others = [
        entropy_range.divergence(histogram, histogram.low * s, histogram.high * s, 256) for s in shrinks
    ]
    assert found == min(others)


def test_entropy_does_not_mind_the_zeros_behind_a_relu() -> None:
    dense, sparse = Histogram(), Histogram()
    values = np.abs(DATA["normal"]).astype(np.float32)
    dense.add(values)
    sparse.add(np.append(values, np.zeros_like(values)))
    assert RANGES["entropy"](sparse, 256) == pytest.approx(RANGES["entropy"](dense, 256), rel=0.05)


@pytest.mark.parametrize("choose", RANGES.values(), ids=RANGES)
def test_a_constant_has_a_range(choose: object) -> None:
    for value in (0.0, 2.0, -2.0):
        low, high = choose(histogram_of(np.full(100, value)), 256)  # type: ignore[operator]
        assert np.isfinite([low, high]).all() and low <= high
        assert min(low, 0.0) <= value * 0.99 <= max(high, 0.0) or value == 0.0 or min(low, 0) <= value
