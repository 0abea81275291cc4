"""The maximum of a row goes from in front of a softmax: that of the same scores, over the same axis."""

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
