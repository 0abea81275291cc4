"""Products of codes on a fixed grid, with a float result: one kernel, not a Gemm that unpacks the weight."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import oracle
from optc.codegen.ort import lower_quant

RNG = np.random.default_rng(0)
K, N = 32, 24
X = RNG.standard_normal((2, 5, K)).astype(np.float32)
CONSTANTS: dict[str, Any] = {
    "step": np.float32(0.02),
    "middle": np.uint8(120),
    "codes": RNG.integers(-63, 64, (K, N)).astype(np.int8),
    "scale": RNG.uniform(0.001, 0.002, N).astype(np.float32),
    "zero": RNG.integers(-9, 10, N).astype(np.int8),
    "one": np.float32(0.001),
    "none": np.int8(3),
    "bias": RNG.standard_normal(N).astype(np.float32),
}
INPUT = "q = QuantizeLinear(x, step, middle)  d = DequantizeLinear(q, step, middle)"
WEIGHT = "w = DequantizeLinear <axis = 1> (codes, scale, zero)"
PLAIN = f"{INPUT}  {WEIGHT}  p = MatMul(d, w)  y = Add(p, bias)"


def compiled(nodes: str, **arrays: Any) -> tuple[optc.Artifact, Any]:
    """The model at -O1, and what it answers as it is written."""
    signature = f"(float[a,b,{K}] x) => (float[a,b,{N}] y)"
    proto = onnx.parser.parse_model(f'<ir_version: 11, opset_import: ["": 21]>\ng {signature} {{ {nodes} }}')
    read = {name for node in proto.graph.node for name in node.input}
    for name, array in {**CONSTANTS, **arrays}.items():
        if name in read:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model = ir.from_proto(proto)
    expected = oracle.run(model, {"x": X})["y"]
    return optc.compile(model, inputs={"x": X}, level=1, gate=False, threads=1), expected


def ops(artifact: optc.Artifact) -> Counter[str]:
    return Counter(node.op_type for node in artifact.model.graph)


@pytest.mark.parametrize(
    "nodes",
    [
        PLAIN,
        PLAIN.replace("Add(p, bias)", "Add(bias, p)"),
        PLAIN.replace("p = MatMul", "y = MatMul").replace("y = Add(p, bias)", ""),
        PLAIN.replace("scale, zero", "scale"),
        PLAIN.replace("scale, zero", "one, none"),
        PLAIN.replace("y = Add", "r = Add") + "  e = QuantizeLinear(r, step, middle)"
        "  y = DequantizeLinear(e, step, middle)",
        PLAIN.replace("y = Add", "r = Add")
        + "  v = DequantizeLinear(codes, one, none)  u = MatMul(d, v)  y = Add(r, u)",
    ],
    ids=["bias", "bias first", "none", "symmetric", "one scale", "rounded behind the bias", "shared"],
)
def test_the_kernel_computes_what_the_pairs_say(nodes: str) -> None:
    made, expected = compiled(nodes)
    assert ops(made)["MatMulIntegerToFloat"] == nodes.count("MatMul") and not ops(made)["MatMul"]
    found = made.run({"x": X})["y"]
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


ROUNDED = PLAIN.replace(
    "y = Add(p, bias)", "e = QuantizeLinear(p, step, middle)  y = DequantizeLinear(e, step, middle)"
)


@pytest.mark.parametrize(
    ("nodes", "arrays", "reason"),
    [
        (PLAIN, {"middle": np.uint16(32768)}, "not codes of 8 bits"),
        (PLAIN, {"middle": np.int8(0)}, "the kernel is fast for uint8"),
        (ROUNDED, {}, None),  # QLinearMatMul is for this
    ],
    ids=["16 bits", "int8", "rounded"],
)
def test_what_is_not_for_the_kernel_stays_as_it_is(
    nodes: str, arrays: dict[str, Any], reason: str | None
) -> None:
    made, expected = compiled(nodes, **arrays)
    assert ops(made)["MatMulIntegerToFloat"] == 0 and ops(made)["MatMul"] == 1
    assert np.linalg.norm(made.run({"x": X})["y"] - expected) < 1e-5 * np.linalg.norm(expected)
    told = str([entry["skipped"] for entry in made.report["passes"]])
    assert reason is None or reason in told


def test_sums_that_saturate_are_left_to_float(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_quant, "int8_saturates", lambda: True)
    assert ops(compiled(PLAIN)[0])["MatMulIntegerToFloat"] == 1
    wide = {"codes": CONSTANTS["codes"] * np.int8(2)}
    assert ops(compiled(PLAIN, **wide)[0])["MatMulIntegerToFloat"] == 0
