"""Samples beyond those that calibration saw, and what they add to the error that is expected."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle, registry, student
from optc.passbase import Context, Feeds
from optc.passes.quantize.choice.judge import Beyond, Judge, Quick
from optc.passes.quantize.choice.stretch import Stretched, stretched

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
FLOAT = ir.from_onnx_text(HEADER + "g (float[n,k] x) => (float[n,k] y) { y = Neg(x) }")


def sized(*sizes: float, batch: int = 1) -> list[Feeds]:
    row = np.float32([[0.6, -0.8]])
    return [{"x": np.repeat(row, batch, axis=0) * np.float32(size)} for size in sizes]


def cut_off_at(end: float) -> ir.Model:
    """As a static range does; exact within."""
    text = f"""g (float[n,k] x) => (float[n,k] y) <float low = {{{-end}}}, float high = {{{end}}}>
        {{ c = Clip(x, low, high)  y = Neg(c) }}"""
    return ir.from_onnx_text(HEADER + text)


def context(samples: list[Feeds] | None) -> Context:
    return Context(target=registry.find_target("cpu"), calibration=samples, max_error=1.0)


def test_samples_are_stretched_beyond_the_largest_by_as_much_as_they_differ() -> None:
    """Up to one deviation of the logarithm, at its largest for so few samples; the largest are taken."""
    samples = sized(*(math.exp(0.2 * (-1) ** i) for i in range(30)))
    made = stretched(samples, 30, 2)
    deviation = 0.2 * math.sqrt(30 / 29) * student.largest_deviation(29)
    assert [float(np.linalg.norm(feeds["x"])) for feeds in made.samples] == pytest.approx(
        [math.exp(0.2 + deviation), math.exp(0.2 + deviation / 2)], rel=1e-5
    )


def test_all_that_is_made_lies_beyond_all_samples() -> None:
    """Of a regnet calibrated on 13 images, six of eight stretched by their own size lay among the others."""
    made = stretched(sized(1.0, 2.0, 3.0, 8.0), 4, 4).samples
    assert min(float(np.linalg.norm(feeds["x"])) for feeds in made) > 8.0
    nothing, *_ = stretched(sized(0.0, 0.0, 0.0), 3, 3).samples
    assert not nothing["x"].any()


def test_what_lies_further_begins_where_the_others_end() -> None:
    samples = sized(*(math.exp(0.2 * (-1) ** i) for i in range(30)))
    near, far = (
        [float(np.linalg.norm(feeds["x"])) for feeds in stretched(samples, 30, 2, further=further).samples]
        for further in (0, 1)
    )
    assert far[1] > near[0] and far[0] == pytest.approx(near[0] ** 2 / math.exp(0.2), rel=1e-5)


@pytest.mark.parametrize("seen", [1, 13, 200])
def test_more_samples_beyond_would_have_shown_among_those_seen(seen: int) -> None:
    share = stretched(sized(1.0, 2.0), seen, 1).share
    assert (1 - share) ** seen == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("sizes", "factor"),
    [
        ((1.0,), 2.5),
        ((1.0, 1.0), 2.5),
        ((1.0,) * 3, 1.1),
        ((1.0, 1.2, 1.5), 1.5),
        ((1.0, 2.0, 4.0), 2.0),  # deviation of the logarithm: that of a factor of two
        ((1.0, 1.0, 5.0), 2.5),
        ((0.0, 0.0, 1.0), 1.25),
    ],
)
def test_the_stretch_has_bounds(sizes: tuple[float, ...], factor: float) -> None:
    (largest,) = stretched(sized(*sizes), len(sizes), 1).samples
    assert float(np.linalg.norm(largest["x"])) == pytest.approx(max(sizes) * factor, rel=1e-5)


def test_a_batch_is_more_than_one_row() -> None:
    """Nothing is known from one or two rows; one batch does not tell how batches differ."""
    (largest,) = stretched(sized(1.0, batch=8), 1, 1).samples
    assert float(largest["x"][0, 0]) == pytest.approx(0.6 * 1.25)


def test_values_pass_an_end_that_samples_share() -> None:
    """Pixels do not get brighter than white, but what lies inside a network grows as if they did."""
    samples = [{"x": np.float32([[-0.1 * i, 0.5, 1.0]])} for i in range(1, 5)]
    (largest,) = stretched(samples, 4, 1).samples
    assert largest["x"][0, 2] >= 1.1 and largest["x"][0, 1] / largest["x"][0, 2] == pytest.approx(0.5)


def test_few_samples_that_agree_by_chance_are_not_believed() -> None:
    """A network with gates and 4 images: the stretch by what they showed, 1.13, was too little."""
    sizes = [math.exp(0.075 * (-1) ** i) for i in range(40)]
    few, many = (
        float(np.linalg.norm(stretched(sized(*some), 40, 1).samples[0]["x"])) for some in (sizes[:4], sizes)
    )
    assert few > 1.1 * many


def test_only_floats_are_stretched() -> None:
    samples: list[Feeds] = [{"x": np.float32([1, 2]), "ids": np.array([[1, 2]])}]
    (made,) = stretched(samples, 1, 8).samples
    np.testing.assert_array_equal(made["ids"], samples[0]["ids"])
    np.testing.assert_array_equal(samples[0]["x"], [1, 2])
    assert not stretched([{"ids": np.array([[1, 2]])}], 1, 8).samples
    assert not stretched([], 0, 8).samples


def test_the_error_beyond_counts_by_its_share() -> None:
    assert Stretched([], 0.25).with_those_beyond(0.1, 0.3) == pytest.approx(math.sqrt(0.01 + 0.08 / 4))
    assert Stretched([], 0.25).with_those_beyond(0.1, 0.05) == 0.1


def test_large_answers_count_by_their_squares() -> None:
    """As in an error that is pooled: one answer in four is three times as large as the others."""
    squares, errors = np.array([1.0, 1.0, 1.0, 9.0]), np.array([0.1, 0.1, 0.1, 0.3])
    pooled = math.sqrt((errors**2 @ squares) / squares.sum())
    assert Stretched([], 0.25).with_those_beyond(0.1, 0.3, weight=9.0) == pytest.approx(pooled)


@pytest.mark.parametrize(("bias", "share"), [(0.0, "more"), (10.0, "the same")])
def test_how_much_larger_the_answers_are_is_taken_from_the_model(bias: float, share: str) -> None:
    samples = sized(*np.linspace(0.5, 1.0, 8))
    text = HEADER + f"g (float[n,k] x) => (float[n,k] y) <float b = {{{bias}}}> {{ PLACE  y = Add(c, b) }}"
    model = ir.from_onnx_text(text.replace("PLACE", "c = Identity(x)"))
    cut_off = ir.from_onnx_text(
        text.replace("PLACE", "c = Clip(x, , end)").replace("> {", ", float end = {0.62}> {")
    )
    beyond = stretched(samples, 8, 8)
    plain = (
        oracle.Oracle(model, samples).compare(cut_off),
        oracle.Oracle(model, beyond.samples).compare(cut_off),
    )
    by_number = beyond.with_those_beyond(*(found.rel_l2 for found in plain))
    added = Beyond(model, samples, 8, context(samples), 8, oracle.Oracle(model, samples))
    found = added.added_to(plain[0].rel_l2, cut_off).likely
    assert found > 1.2 * by_number if share == "more" else found == pytest.approx(by_number, rel=0.05)


def test_what_a_range_cuts_off_just_outside_the_samples_is_expected() -> None:
    """No sample shows it; with many samples it is rare."""
    errors = {}
    for count in (4, 16, 256):
        samples = sized(*np.linspace(0.5, 1.0, count))
        found = Judge(FLOAT, samples, context(samples)).of(cut_off_at(0.8))
        assert found.rel_l2 == 0.0 and found.larger is not None
        errors[count] = found.larger.likely
        assert found.expected > found.larger.likely
    assert errors[4] > 0.08 > errors[16] > 0.03 > errors[256] > 0.0


def test_at_worst_samples_lie_further_beyond() -> None:
    samples = sized(*np.linspace(0.5, 1.0, 16))
    judge = Judge(FLOAT, samples, context(samples))
    found = {end: judge.of(cut_off_at(end)).larger for end in (0.8, 1.2, 80.0)}
    near, middle, far = found.values()
    assert near is not None and middle is not None and far is not None
    assert near.worst > 1.5 * near.likely and far.worst == far.expected == 0.0
    assert middle.likely == 0.0 and middle.worst > 0.05


def test_the_error_of_a_site_knows_of_it() -> None:
    samples = sized(*np.linspace(0.5, 1.0, 8))
    assert Quick(FLOAT, samples, 4, context(samples))(cut_off_at(0.8)) > 1e-3
    assert Quick(FLOAT, samples, 4, context(samples))(cut_off_at(80)) == 0.0


def test_without_calibration_nothing_is_stretched() -> None:
    found = Judge(FLOAT, sized(1.0), context(None)).of(cut_off_at(0.8))
    assert found.expected == 0.0
