"""Gathers with coordinates that count along axes are reshapes; anything else stays a gather."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import parse, simplify

CONSTANTS = {
    "zero": np.int64(0),
    "one": np.int64(1),
    "three": np.int64(3),
    "two": np.int64(2),
    "last": [-1],
    "mid": [1, 2],
    "front": [0, 1],
}


def model(*, first: str = "zero, b, one", second: str = "zero, s, one", order: str = "r, c"):
    """Padding masks of the dynamo exporter: x[row, column] with rows and columns from broadcast ranges."""
    return parse(
        f"""(bool[B,S] x) => (bool[N,M,K,L] y) {{
        bv = Shape<start=0,end=1>(x) sv = Shape<start=1,end=2>(x) b = Squeeze(bv) s = Squeeze(sv)
        rr = Range({first}) cr = Range({second})
        r1 = Unsqueeze(rr, mid) rows = Unsqueeze(r1, last)
        cols = Unsqueeze(cr, front) cols2 = Unsqueeze(cols, mid0)
        both = Max(rows, cols2) shape = Shape(both)
        re = Expand(rows, shape) ce = Expand(cols2, shape) r = Unsqueeze(re, last) c = Unsqueeze(ce, last)
        index = Concat<axis=-1>({order}) g = GatherND(x, index) y = Not(g) }}""",
        constants={**CONSTANTS, "mid0": [0]},
    )


def test_full_grid() -> None:
    assert simplify(model()).formula == "Not(Unsqueeze(x, [1, 2]))"


@pytest.mark.parametrize("first", ["zero, b, two", "zero, one, one"])
def test_range_that_skips_rows_stays(first: str) -> None:
    assert "GatherND" in simplify(model(first=first), sizes=({"B": 2, "S": 5}, {"B": 3, "S": 4})).formula


def test_range_that_starts_later_stays() -> None:
    outcome = simplify(model(second="one, s, one"), sizes=({"B": 2, "S": 5}, {"B": 3, "S": 4}))
    assert "GatherND" in outcome.formula


def test_range_over_a_part_of_the_rows_stays() -> None:
    outcome = simplify(model(first="zero, two, one"), sizes=({"B": 3, "S": 5}, {"B": 2, "S": 4}))
    assert "GatherND" in outcome.formula
    assert outcome.reasons == ["gather with a grid kept: a coordinate does not run over the whole axis"]


def test_columns_by_rows_transposes() -> None:
    """x[column, row] on a square: the rows of the index run over the second axis of x."""
    square = parse(
        """(float[4,4] x) => (float[4,4] y) {
        re = Expand(rows, shape) ce = Expand(cols, shape) r = Unsqueeze(re, last) c = Unsqueeze(ce, last)
        index = Concat<axis=2>(c, r) g = GatherND(x, index) y = Neg(g) }""",
        constants={"rows": np.arange(4).reshape(4, 1), "cols": np.arange(4), "shape": [4, 4], "last": [-1]},
    )
    assert "GatherND" in simplify(square).formula  # folded into one constant index, which is left alone


def test_gather_of_everything() -> None:
    body = "(float[B,6] x) => (float[B,6] y) { g = Gather<axis=1>(x, i) y = Relu(g) }"
    assert simplify(parse(body, constants={"i": np.arange(6)})).formula == "Relu(x)"
    for index in (np.arange(6)[::-1].copy(), np.arange(1, 7) % 6):
        assert "Gather" in simplify(parse(body, constants={"i": index})).formula
    part = body.replace("float[B,6] y", "float[B,5] y")
    assert "Gather" in simplify(parse(part, constants={"i": np.arange(5)})).formula
