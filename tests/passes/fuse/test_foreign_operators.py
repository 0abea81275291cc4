"""An operator of another domain is not the one of ONNX that has its name."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from attention_text import assert_same, fuse, random_feeds

TEXT = """<ir_version: 10, opset_import: ["": 20, "own": 1]>
attention (float[b, 4, s, 6] q, float[b, 4, 6, t] k, float[b, 4, t, 6] v) => (float[b, 4, s, 6] y) {
    product = MatMul (q, k)
    scores = %s (product)
    weights = Softmax <axis = -1> (scores)
    y = MatMul (weights, v)
}
<domain: "own", opset_import: ["": 20]>
Identity (x) => (z) { z = Neg (x) }
"""


@pytest.mark.parametrize(("op", "fused"), [("Identity", 1), ("own.Identity", 0)])
def test_scores_come_through_operators_of_onnx_only(op: str, fused: int) -> None:
    before, after = (ir.from_proto(onnx.parser.parse_model(TEXT % op)) for _ in range(2))
    assert fuse(after).matched["attention"] == fused
    assert_same(before, after, [random_feeds(before, {"b": 2, "s": 3, "t": 5})])
