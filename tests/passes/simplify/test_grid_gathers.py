"""Gathers with coordinates that count along axes are reshapes; anything else stays a gather."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
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
    assert simplify(square).formula == "Neg(Transpose{perm=[1, 0]}(x))"


GRID = np.stack(np.meshgrid(np.arange(2), np.arange(3), indexing="ij"), axis=-1)


def test_constant_grid() -> None:
    """The mask of a model with static shapes: the whole index is one constant."""
    body = "(bool[2,3] x) => (bool[2,1,1,3] y) { g = GatherND(x, i) y = Not(g) }"
    grid = GRID.reshape(2, 1, 1, 3, 2)
    assert simplify(parse(body, constants={"i": grid})).formula == "Not(Unsqueeze(x, [1, 2]))"
    for wrong in (grid[..., ::-1] % 2, grid * 0, np.roll(grid, 1, axis=3)):
        assert "GatherND" in simplify(parse(body, constants={"i": wrong.copy()})).formula


def test_constant_grid_of_batch_one() -> None:
    body = "(bool[1,3] x) => (bool[1,1,1,3] y) { g = GatherND(x, i) y = Not(g) }"
    grid = np.stack([np.zeros(3, int), np.arange(3)], axis=-1).reshape(1, 1, 1, 3, 2)
    assert simplify(parse(body, constants={"i": grid})).formula == "Not(Unsqueeze(x, [1, 2]))"
    larger = body.replace("bool[1,3] x", "bool[2,3] x")  # row 0 of two
    assert "GatherND" in simplify(parse(larger, constants={"i": grid})).formula


def test_computed_grid_of_batch_one() -> None:
    model_ = model(first="zero, one, one")
    model_.graph.inputs[0].shape = ir.Shape([1, "S"])
    assert simplify(model_).formula == "Not(Unsqueeze(x, [1, 2]))"


def test_constant_grid_that_leaves_trailing_axes() -> None:
    body = "(float[2,3,4] x) => (float[3,2,4] y) { g = GatherND(x, i) y = Neg(g) }"
    swapped = GRID.transpose(1, 0, 2).copy()
    assert simplify(parse(body, constants={"i": swapped})).formula == "Neg(Transpose{perm=[1, 0, 2]}(x))"


def test_constant_grid_that_repeats_rows() -> None:
    body = "(float[2,3] x) => (float[4,2,3] y) { g = GatherND(x, i) y = Neg(g) }"
    repeated = np.broadcast_to(GRID, (4, 2, 3, 2)).copy()
    outcome = simplify(parse(body, constants={"i": repeated}))
    assert outcome.reasons == ["gather with a grid kept: the grid repeats rows"]


def test_gather_of_everything() -> None:
    body = "(float[B,6] x) => (float[B,6] y) { g = Gather<axis=1>(x, i) y = Relu(g) }"
    assert simplify(parse(body, constants={"i": np.arange(6)})).formula == "Relu(x)"
    for index in (np.arange(6)[::-1].copy(), np.arange(1, 7) % 6):
        assert "Gather" in simplify(parse(body, constants={"i": index})).formula
    part = body.replace("float[B,6] y", "float[B,5] y")
    assert "Gather" in simplify(parse(part, constants={"i": np.arange(5)})).formula
