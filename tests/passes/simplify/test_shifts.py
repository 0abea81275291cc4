"""Softmax written out is softmax, and the maximum of a row goes from in front of it."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import formula, parse, simplify

HEAD = "(float[B,4] x) => (float[B,4] y) "


@pytest.mark.parametrize("softmax", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("axes", "axis"), [(-1, -1), (1, -1), (-1, 1), (0, 0)])
def test_the_maximum_goes(softmax: str, axes: int, axis: int) -> None:
    body = HEAD + f"{{ m = ReduceMax(x, axes) s = Sub(x, m) y = {softmax}<axis={axis}>(s) }}"
    found = formula(body, constants={"axes": np.array([axes])})
    assert found == f"{softmax}{{axis={axis}}}(x)"


REFUSED = {
    "another axis": "m = ReduceMax(x, first) s = Sub(x, m) y = Softmax<axis=-1>(s)",
    "all axes": "m = ReduceMax(x) s = Sub(x, m) y = Softmax<axis=-1>(s)",
    "of other scores": "z = Relu(x) m = ReduceMax(z, last) s = Sub(x, m) y = Softmax<axis=-1>(s)",
    "turned around": "m = ReduceMax(x, last) s = Sub(m, x) y = Softmax<axis=-1>(s)",
    "another reduction": "m = ReduceMin(x, last) s = Sub(x, m) y = Softmax<axis=-1>(s)",
    "axis that is dropped": "m = ReduceMax<keepdims=0>(x, first) s = Sub(x, m) y = Softmax<axis=-1>(s)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_maximum_of_the_row_stays(name: str) -> None:
    constants = {"first": np.array([0]), "last": np.array([-1])}
    assert "Sub" in formula(HEAD + "{" + REFUSED[name] + "}", constants=constants)


def test_the_bits_stay_with_masked_and_infinite_rows() -> None:
    """-inf in places and throughout, +inf, NaN: compared bit for bit by the helper."""
    body = HEAD + "{ m = ReduceMax(x, axes) s = Sub(x, m) y = Softmax<axis=-1>(s) }"
    rows = [[1, -np.inf, 3, 2], [-np.inf] * 4, [0, np.inf, 1, 2], [0, np.nan, 1, 2], [1e38, -1e38, 0, 5]]
    x = np.array(rows)
    done = simplify(parse(body, constants={"axes": np.array([-1])}), feeds=[{"x": x.astype(np.float32)}])
    assert done.formula == "Softmax{axis=-1}(x)"


def test_shifted_scores_that_others_read_stay() -> None:
    body = "(float[B,4] x) => (float[B,4] y, float[B,4] s) "
    body += "{ m = ReduceMax(x, axes) s = Sub(x, m) y = Softmax<axis=-1>(s) }"
    done = simplify(parse(body, constants={"axes": np.array([-1])}))
    assert done.formula.startswith("Softmax{axis=-1}(x); Sub(x, ReduceMax(x")


WRITTEN = "m = ReduceMax(x, axes) s = Sub(x, m) e = Exp(s) t = ReduceSum(e, axes) y = Div(e, t)"


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_written_out(axis: int) -> None:
    """Also of infinities and NaN, in places and throughout."""
    rows = [[1, -np.inf, 3, 2], [-np.inf] * 4, [0, np.inf, 1, 2], [0, np.nan, 1, 2], [1e38, -1e38, 0, 5]]
    feeds = [{"x": np.array(x, np.float32)} for x in (rows, rows[:1], [[500, 600, -700, 0], [1, 2, 3, 4]])]
    done = simplify(
        parse(f"{HEAD} {{ {WRITTEN} }}", constants={"axes": np.array([axis])}), feeds=feeds, rtol=1e-6
    )
    assert done.formula == f"Softmax{{axis={axis % 2}}}(x)"


NOT_WRITTEN = {
    "without the maximum": "e = Exp(x) t = ReduceSum(e, last) y = Div(e, t)",
    "axis that is dropped": "m = ReduceMax(x, first) s = Sub(x, m) e = Exp(s) "
    "t = ReduceSum<keepdims=0>(e, first) y = Div(e, t)",
    "sum over another axis": "m = ReduceMax(x, last) s = Sub(x, m) e = Exp(s) "
    "t = ReduceSum(e, first) y = Div(e, t)",
    "maximum of another axis": "m = ReduceMax(x, first) s = Sub(x, m) e = Exp(s) "
    "t = ReduceSum(e, last) y = Div(e, t)",
    "sum of others": "m = ReduceMax(x, last) s = Sub(x, m) e = Exp(s) "
    "z = Relu(x) t = ReduceSum(z, last) y = Div(e, t)",
    "sum in front": "m = ReduceMax(x, last) s = Sub(x, m) e = Exp(s) t = ReduceSum(e, last) y = Div(t, e)",
    "sum of everything": "m = ReduceMax(x, last) s = Sub(x, m) e = Exp(s) t = ReduceSum(e) y = Div(e, t)",
    "no powers": "m = ReduceMax(x, last) s = Sub(x, m) e = Abs(s) t = ReduceSum(e, last) y = Div(e, t)",
}


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_what_is_no_softmax_stays(name: str) -> None:
    constants = {"first": np.array([0]), "last": np.array([-1])}
    assert "Softmax" not in formula(f"{HEAD} {{ {NOT_WRITTEN[name]} }}", constants=constants)


def test_exponentials_that_others_read_stay_with_a_reason() -> None:
    body = f"(float[B,4] x) => (float[B,4] y, float[B,4] e) {{ {WRITTEN} }}"
    done = simplify(parse(body, constants={"axes": np.array([-1])}))
    assert "Softmax" not in done.formula
    assert done.reasons == ["softmax stays written out: its exponentials are used otherwise"]


def test_half_precision_stays_written_out() -> None:
    body = f"(float16[B,4] x) => (float16[B,4] y) {{ {WRITTEN} }}"
    done = simplify(parse(body, constants={"axes": np.array([-1])}))
    assert done.reasons == ["softmax stays written out: half precision would round differently"]
