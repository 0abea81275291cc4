"""Tokens that enter beside the data are counted from their end, through slices and joins."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.passes.merge_tokens._protect import _Ends, _varying, trailing

TEXT = """<ir_version: 10, opset_import: ["": 20]> g (float[1,6,2] x) => (y) <
    float[1,2,2] added = {1, 2, 3, 4}, float[2,1,2] turned = {1, 2, 3, 4},
    int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
    int64[1] minus = {-1}, int64[1] far = {9223372036854775807}, int64[1] along = {1}, int64[1] width = {2}
> { %s }"""
BEFORE_THE_BATCH = "t = Transpose<perm = [1, 0, 2]>(x)  c = Concat<axis = 0>(turned, t) "
IN_FRONT = "tokens = Concat<axis = 1>(added, x) "


def counted(body: str) -> tuple[int, int]:
    """How many at the front and at the end of ``y``."""
    model = ir.from_onnx_text(TEXT % body)
    shapes.infer(model)
    [value] = model.graph.outputs
    front = _Ends(_varying(model.graph), front=True).constant(value, 1)
    return front, trailing(model.graph, value, 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Concat<axis = 1>(added, x)", (2, 0)),
        ("y = Concat<axis = 1>(x, added)", (0, 2)),
        ("y = Concat<axis = 1>(added, x, added)", (2, 2)),
        ("y = Concat<axis = 1>(x, added, x)", (0, 0)),
        (BEFORE_THE_BATCH + "y = Transpose<perm = [1, 0, 2]>(c)", (2, 0)),
        (IN_FRONT + "y = Slice(tokens, zero, far, along)", (2, 0)),
        (IN_FRONT + "y = Slice(tokens, one, far, along)", (1, 0)),
        (IN_FRONT + "y = Slice(tokens, two, far, along)", (0, 0)),
        (IN_FRONT + "y = Slice(tokens, zero, one, along)", (1, 0)),
        (IN_FRONT + "y = Slice(tokens, minus, far, along)", (0, 0)),
        (IN_FRONT + "y = Slice(tokens, one, far, width)", (2, 0)),
    ],
)
def test_constant_tokens_at_both_ends(body: str, expected: tuple[int, int]) -> None:
    assert counted(body) == expected
