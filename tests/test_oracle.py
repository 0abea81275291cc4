"""The oracle: what counts as equal, and what it says of models that differ or fail."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc.difference import EXACT_TOLERANCE, Comparison
from optc.errors import VerifyError
from optc.oracle import Difference, Oracle, Skipped, difference, random_op, run

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def parse(text: str) -> ir.Model:
    return ir.from_onnx_text(HEADER + text)


def unary(op: str) -> ir.Model:
    return parse(f"g (float[n] x) => (float[n] y) {{ y = {op}(x) }}")


def floats(*values: float) -> dict[str, np.ndarray]:
    return {"y": np.array(values, np.float32)}


def test_equal_outputs_have_no_difference() -> None:
    assert difference(floats(1, 2), floats(1, 2)) == Difference(0.0, 1.0, 1.0, 0.0, "y", 0.0)


def test_figures_of_a_known_difference() -> None:
    found = difference(floats(3, 4), floats(3, 1))
    assert found.rel_l2 == pytest.approx(3 / 5) and found.max_abs == 3 and found.top1 == 0
    assert found.cosine == pytest.approx((9 + 4) / (5 * math.sqrt(10)))
    assert not found.exact and found.reason is None


def test_the_worst_output_is_reported() -> None:
    expected = {"a": np.ones(3, np.float32), "b": [np.ones(2, np.float32), np.ones(2, np.float32)]}
    actual = {"a": np.float32([1, 1, 1.01]), "b": [np.ones(2, np.float32), np.float32([1, 2])]}
    assert difference(expected, actual).output == "b[1]"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_exact_tolerance_by_type(dtype: type) -> None:
    tolerance = EXACT_TOLERANCE[ir.DataType.from_numpy(np.dtype(dtype))]
    expected = np.ones(4, np.float64)

    def moved(by: float) -> Difference:
        # rounding to the type would hide the step: scale all of it into what the type can hold
        step = max(by, float(ml_dtypes.finfo(dtype).eps))
        return difference({"y": expected.astype(dtype)}, {"y": (expected + step).astype(dtype)})

    assert moved(tolerance / 10).exact
    assert not moved(tolerance * 2).exact


def test_outputs_that_cancelled_are_held_to_an_absolute_tolerance() -> None:
    assert difference(floats(0, 0), floats(5e-8, 0)).exact
    assert not difference(floats(0, 0), floats(1e-5, 0)).exact
    assert difference(floats(0, 0), floats(5e-8, 0)).rel_l2 == math.inf


def test_squares_of_an_output_are_those_of_one_sample() -> None:
    model = parse("g (float[n] x) => (float[n] y, int64[n] k) { y = Neg(x)  k = Cast<to=7>(x) }")
    samples = [{"x": np.float32([3, 4])}, {"x": np.float32([1, np.inf])}]
    assert Oracle(model, samples).squares() == {"y": 13.0}
    assert Oracle(model, []).squares() == {}


def test_nan_and_infinity_in_the_same_places_are_equal() -> None:
    values = (1, math.nan, math.inf, -math.inf)
    assert difference(floats(*values), floats(*values)).exact
    for other in [
        (1, 0, math.inf, -math.inf),
        (1, math.nan, -math.inf, -math.inf),
        (1, math.nan, math.inf, 7),
    ]:
        found = difference(floats(*values), floats(*other))
        assert found.rel_l2 == math.inf and not found.exact and "NaN" in str(found.reason)


@pytest.mark.parametrize(
    ("left", "right"),
    [(np.array([1, 2]), np.array([1, 3])), (np.array(True), np.array(False)), (np.array(["a"], object),) * 2],
)
def test_discrete_outputs_must_be_identical(left: np.ndarray, right: np.ndarray) -> None:
    found = difference({"y": left}, {"y": right})
    assert found.exact == np.array_equal(left, right)
    assert found.rel_l2 == 0  # the figure of a lossy pass is about float outputs


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (np.ones(2, np.float32), np.ones((2, 1), np.float32), "shape"),
        (np.ones(2, np.float32), np.ones(2, np.float64), "type"),
        ([np.ones(2, np.float32)], [], "sequence"),
        (np.ones(2, np.float32), None, "nothing"),
        (None, [np.ones(2, np.float32)], "sequence"),
    ],
)
def test_outputs_that_cannot_be_compared(left: object, right: object, reason: str) -> None:
    found = difference({"y": left}, {"y": right})
    assert found.rel_l2 == math.inf and not found.exact and reason in str(found.reason)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,)])
def test_scalars_and_empty_outputs(shape: tuple[int, ...]) -> None:
    value = np.ones(shape, np.float32)
    assert difference({"y": value}, {"y": value.copy()}).exact
    assert difference({}, {}).exact and difference({"y": None}, {"y": None}).exact


def test_a_missing_output_is_named() -> None:
    assert "y" in str(difference(floats(1), {}).reason)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e150, 1e160, 1e300, 1.7e308])
def test_doubles_whose_squares_overflow_are_compared(size: float) -> None:
    """Squares of doubles from 1e154 on are infinite."""
    comparison = Comparison()
    for unit in (1.0, size, 1.0):
        comparison.add({"y": unit * np.array([0.6, -0.8])}, {"y": unit * np.array([0.6, -0.8 * (1 + 1e-3)])})
    found = comparison.result()
    assert found.rel_l2 == pytest.approx(0.8e-3, rel=1e-6)
    assert found.max_abs == pytest.approx(0.8e-3 * size)
    assert found.cosine == pytest.approx(1.0) and found.excess == pytest.approx(800, rel=1e-6)
    assert difference({"y": np.array([size])}, {"y": np.array([-size])}).rel_l2 == pytest.approx(2.0)


def test_samples_are_pooled() -> None:
    oracle = Oracle(unary("Relu"), [{"x": np.float32([3])}, {"x": np.float32([-4])}])
    found = oracle.compare(unary("Abs"))
    assert isinstance(found, Difference)
    assert found.rel_l2 == pytest.approx(4 / 3)  # 0 of the first and 4 of the second over 3 of the first


def test_rewritten_model_that_agrees() -> None:
    rewritten = parse("g (float[n] x) => (float[n] y) { t = Neg(x) y = Neg(t) }")
    found = Oracle(unary("Identity"), [{"x": np.float32([1, 2])}]).compare(rewritten)
    assert isinstance(found, Difference) and found.exact and found.output == "y"


def test_skipped_with_the_reason() -> None:
    feeds = {"x": np.float32([1])}
    random = parse("g (float[n] x) => (float[n] y) { y = RandomNormalLike(x) }")
    assert Oracle(random, [feeds]).compare(random) == Skipped(
        "the model draws random numbers (RandomNormalLike)"
    )
    assert isinstance(Oracle(unary("Abs"), []).compare(unary("Abs")), Skipped)
    failing = parse("g (float[n] x) => (float[3] y) { s = Constant<value_ints=[3]>() y = Reshape(x, s) }")
    skipped = Oracle(failing, [feeds]).compare(failing)
    assert isinstance(skipped, Skipped) and "captured model fails" in skipped.reason


def test_a_rewrite_that_breaks_the_model_is_an_error() -> None:
    oracle = Oracle(unary("Abs"), [{"x": np.float32([1])}])
    with pytest.raises(VerifyError, match="no longer runs"):
        oracle.compare(unary("NoSuchOp"))


def test_run_executes_what_is_written() -> None:
    np.testing.assert_array_equal(run(unary("Neg"), {"x": np.float32([1, -2])})["y"], [-1, 2])


def calling(op: str, function: str) -> ir.Model:
    opsets = 'ir_version: 10, opset_import: ["": 20, "own": 1]'
    text = f"<{opsets}> g (float[n] x) => (float[n] y) {{ y = {op}(x) }}"
    body = f'<domain: "own", opset_import: ["": 20]> {function}'
    return ir.from_proto(onnx.parser.parse_model(f"{text} {body}"))


@pytest.mark.parametrize(("op", "found"), [("Bernoulli", "Bernoulli"), ("own.Bernoulli", None)])
def test_an_operator_of_another_domain_draws_nothing(op: str, found: str | None) -> None:
    assert random_op(calling(op, "Bernoulli (x) => (y) { y = Relu(x) }")) == found


def test_what_a_function_draws_counts() -> None:
    model = calling("own.F", "F (x) => (y) { y = RandomNormalLike(x) }")
    assert random_op(model) == "RandomNormalLike"
