"""Tables of cosines whose columns come in equal pairs: halves, or neighbours when interleaved."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle
from optc.analysis import shapes
from optc.passes.fuse._turn import is_doubled

CONSTANTS = (
    "int64[1] last = {-1}, int64[3] twice = {7, 3, 2}, int64[2] flat = {7, 6}, int64[2] odd = {14, 3}, "
    "int64[3] repeats = {1, 1, 2}, int64[3] other = {7, 2, 3}, float two = {2}, "
    "int64[1] zero = {0}, int64[1] five = {5}, int64[2] rows = {1, 0}"
)
STACK = "u = Unsqueeze (x, last) "
CASES = {
    "halves": ("y = Concat <axis = -1> (x, x)", {False}),
    "halves of different tables": ("z = Cos (x) y = Concat <axis = -1> (x, z)", set()),
    "other rows below": ("y = Concat <axis = 0> (x, x)", set()),
    "stacked": (STACK + "s = Concat <axis = -1> (u, u) y = Reshape (s, flat)", {True}),
    "stacked before": (STACK + "s = Concat <axis = 1> (u, u) y = Reshape (s, flat)", set()),
    "expanded": (STACK + "s = Expand (u, twice) y = Reshape (s, flat)", {True}),
    "tiled": (STACK + "s = Tile (u, repeats) y = Reshape (s, flat)", {True}),
    "pairs cut apart": (STACK + "s = Expand (u, twice) y = Reshape (s, odd)", set()),
    "scaled": ("d = Concat <axis = -1> (x, x) c = Cos (d) y = Mul (two, c)", {False}),
    "divided": ("d = Concat <axis = -1> (x, x) y = Div (d, two)", {False}),
    "sums": ("d = Concat <axis = -1> (x, x) y = Add (d, b)", set()),
    "weighted columns": ("d = Concat <axis = -1> (x, x) y = Mul (d, b)", set()),
    "fewer rows": ("d = Concat <axis = -1> (x, x) y = Slice (d, zero, five, zero)", {False}),
    "picked rows": ("d = Concat <axis = -1> (x, x) y = Gather <axis = 0> (d, rows)", {False}),
    "swapped columns": ("d = Concat <axis = -1> (x, x) y = Gather <axis = 1> (d, rows)", set()),
    "turned": ("d = Concat <axis = -1> (x, x) y = Transpose <perm = [1, 0]> (d)", set()),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_are_known_equal(name: str) -> None:
    body, expected = CASES[name]
    header = '<ir_version: 10, opset_import: ["": 20]> g (float[7, 3] x, float[7, 6] b) => (float[p, q] y)'
    model = ir.from_onnx_text(f"{header} <{CONSTANTS}> {{ {body} }}")
    shapes.infer(model)
    assert {kind for kind in (False, True) if is_doubled(model.graph.outputs[0], kind)} == expected
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(7, 3)).astype("f"), "b": rng.normal(size=(7, 6)).astype("f")}
    table = oracle.run(model, feeds)["y"]
    for interleaved in expected:
        half = table.shape[-1] // 2
        left, right = (table[:, ::2], table[:, 1::2]) if interleaved else (table[:, :half], table[:, half:])
        assert np.array_equal(left, right)
