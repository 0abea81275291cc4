"""Bias correction of dynamic int8: the mean error of each output channel is gone, and nothing else moves."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from linears import ops, parse, run

from optc import oracle

RNG = np.random.default_rng(0)
W = RNG.standard_normal((32, 8)).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)
# Most values round to zero, always from above; one is large.
SAMPLES = [
    {"x": np.where(RNG.random((1, 50, 32)) < 0.01, 30, RNG.random((1, 50, 32)) * 0.05).astype(np.float32)}
    for _ in range(4)
]
SITES = {
    "MatMul": "y = MatMul(x, w)",
    "MatMul and bias": "p = MatMul(x, w)  y = Add(b, p)",
    "Gemm": "y = Gemm(x, w)",
    "Gemm and bias": "y = Gemm(x, w, b)",
}


def _model(body: str) -> ir.Model:
    x, y = ("50,32", "50,8") if "Gemm" in body else ("1,50,32", "1,50,8")
    given = {"w": W} | ({"b": BIAS} if "b" in body.split("=", 1)[1].replace("Gemm", "") else {})
    return parse(f"(float[{x}] x) => (float[{y}] y) {{ {body} }}", **given)


@pytest.mark.parametrize("body", SITES.values(), ids=SITES)
def test_the_mean_error_goes_into_a_bias_that_costs_nothing(body: str) -> None:
    samples = [{"x": s["x"][0]} for s in SAMPLES] if "Gemm" in body else SAMPLES
    errors = {}
    for correct in ("true", "false"):
        text = f"quantize{{scheme=int8-dynamic, smooth=none, bias-correct={correct}}}, fuse, legalize"
        model, [record, *_] = run(text, _model(body), samples)
        assert record.report.matched.get("bias corrected", 0) == (correct == "true")
        assert ops(model) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat"]
        off = [oracle.run(model, s)["y"] - oracle.run(_model(body), s)["y"] for s in samples]
        errors[correct] = np.abs(np.mean(off, axis=(0, 1) if "Gemm" in body else (0, 1, 2))).max()
    assert errors["true"] < 0.2 * errors["false"]


def test_it_needs_data_and_says_nothing_was_done_without() -> None:
    _, [record] = run("quantize{scheme=int8-dynamic}", _model("y = MatMul(x, w)"))
    assert "bias corrected" not in record.report.matched
