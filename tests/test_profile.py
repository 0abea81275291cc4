"""Time by operator: what cannot be profiled is said, and what goes wrong on our side is not hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optc import profile
from optc.analysis import shapes

MODEL = ir.from_onnx_text("""<ir_version: 10, opset_import: ["" : 20]>
g (float[4,4] x) => (float[4,4] y) {
   a = MatMul (x, x)
   y = Relu (a)
}""")
FEEDS = {"x": np.ones((4, 4), np.float32)}


def test_every_operator_has_its_time() -> None:
    found = profile.profile(MODEL, MODEL, FEEDS, threads=1)
    assert set(found["operators"]["before"]) == {"MatMul", "Relu"}
    assert "not_profiled" not in found
    assert all(row["ms"] > 0 for row in found["roofline"]["ops"])


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ("a = com.microsoft.Gelu(x)  y = MatMul(a, x)", "com.microsoft::Gelu"),
        (
            """q, scale, zero = DynamicQuantizeLinear(x)
            y = com.microsoft.MatMulIntegerToFloat(q, w, scale, step, zero)""",
            "com.microsoft::MatMulIntegerToFloat",
        ),
    ],
)
def test_kernels_of_the_runtime_are_in_the_roofline(nodes: str, name: str) -> None:
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
        g (float[4,4] x) => (float[4,4] y)
        <int8[4,4] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}}, float[1] step = {{0.1}}> {{ {nodes} }}"""
    )
    shapes.infer(model)
    found = profile.profile(model, model, FEEDS, threads=1)
    assert name in [row["op"] for row in found["roofline"]["ops"]]


def test_a_runtime_that_fails_gives_the_reason() -> None:
    found = profile.profile(MODEL, MODEL, {"x": np.ones(3, np.float32)}, threads=1)
    assert list(found) == ["not_profiled"] and "rank" in found["not_profiled"].lower()


def test_our_own_errors_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("a defect of the roofline")

    monkeypatch.setattr(profile, "inspect_data", fail)
    with pytest.raises(ValueError, match="a defect of the roofline"):
        profile.profile(MODEL, MODEL, FEEDS, threads=1)


def test_one_slow_call_does_not_count_and_inner_nodes_count_each_time() -> None:
    calls = [9.0, 9.0, 1.0, 1.0, 50.0, 1.0, 1.0, 1.0, 1.0]
    assert profile.per_call(calls) == 1
    assert profile.per_call([time for time in calls for _ in range(4)]) == 4
    assert profile.per_call([9.0]) == 1  # a branch that one call of nine takes
