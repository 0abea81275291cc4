"""Numbers that a graph works out from constants and sizes: found exactly, or not at all."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.passes.fuse._scale import known_number

CONSTANTS = (
    "float four = {4}, float zero = {0}, float[2] unlike = {2, 3}, "
    "int64[1] first = {0}, int64[1] last = {-1}, int64[1] end = {2147483647}, int64[1] three = {3}, "
    "int64[2] pair = {2, 3}, int64[1] minus_two = {-2}, float half = {0.5}, int64[1] back = {-1}"
)
FOUND = {
    "root": ("n = Sqrt (four)", 2.0),
    "negated": ("n = Neg (four)", -4.0),
    "as a size": ("s = Shape (x) g = Gather (s, last) n = Cast <to = 1> (g)", 6.0),
    "the second of two": ("s = Shape (x) g = Slice (s, last, end) n = Cast <to = 1> (g)", 6.0),
    "part of a shape": ("s = Shape <start = 2> (x) n = Cast <to = 1> (s)", 6.0),
    "another view": ("u = Reshape (four, three_ones) n = Sqrt (u)", 2.0),
    "expanded": ("u = Expand (four, pair) n = Sqrt (u)", 2.0),
    "more axes": ("u = Unsqueeze (four, first) r = Squeeze (u, first) n = Sqrt (r)", 2.0),
    "a filled tensor": ("n = ConstantOfShape <value = float[1] {0.25}> (pair)", 0.25),
    "filled by default": ("n = ConstantOfShape (pair)", 0.0),
    "whole number": ("i = Cast <to = 7> (four) n = Cast <to = 1> (i)", 4.0),
    "1 / sqrt(size)": (
        "s = Shape (x) g = Gather (s, last) f = Cast <to = 1> (g) r = Sqrt (f) n = Reciprocal (r)",
        6**-0.5,
    ),
}
NOT_FOUND = {
    "different elements": "n = Neg (unlike)",
    "a size that changes": "s = Shape (x) g = Gather (s, first) n = Cast <to = 1> (g)",
    "two sizes": "s = Shape (x) g = Slice (s, minus_two, end) n = Cast <to = 1> (g)",
    "backwards": "s = Shape (x) g = Slice (s, last, minus_two, first, back) n = Cast <to = 1> (g)",
    "cut off": "i = Cast <to = 7> (half) n = Cast <to = 1> (i)",
    "infinite": "n = Reciprocal (zero)",
    "from an input": "n = Neg (x)",
    "another arithmetic": "n = Sin (four)",
}


def number(body: str) -> float | None:
    constants = CONSTANTS + ", int64[3] three_ones = {1, 1, 1}"
    text = f'<ir_version: 10, opset_import: ["": 20]> g (float[b, 5, 6] x) => (float n) <{constants}> '
    model = ir.from_onnx_text(text + f"{{ {body} }}")
    shapes.infer(model)
    return known_number(model.graph.outputs[0])


@pytest.mark.parametrize("name", FOUND)
def test_a_number_is_worked_out(name: str) -> None:
    body, expected = FOUND[name]
    assert number(body) == pytest.approx(expected)


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_no_one_number_is_not(name: str) -> None:
    assert number(NOT_FOUND[name]) is None
