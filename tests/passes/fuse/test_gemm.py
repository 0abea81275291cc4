"""Bias and activation join a product of matrices with the parameters that FusedGemm knows them by."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from fusing import fuse, fused_same, ops, parse, run

from optc.passes.fuse.gemm import ACTIVATIONS, FusedGemm

_GENERATOR = np.random.default_rng(0)
W = _GENERATOR.standard_normal((4, 3)).astype("f4")
BIAS = _GENERATOR.standard_normal(3).astype("f4")
SPECIAL = {
    "LeakyRelu": "<alpha = 0.3>",
    "ThresholdedRelu": "<alpha = 0.7>",
    "Elu": "<alpha = 0.6>",
    "Celu": "<alpha = 0.8>",
    "HardSigmoid": "<alpha = 0.3, beta = 0.4>",
    "Selu": "<alpha = 1.5, gamma = 1.2>",
}


def _model(lines: str, *, x: str = "B,4", out: str = "B,3", opset: int = 20) -> ir.Model:
    constants = {k: v for k, v in {"w": W, "wt": W.T.copy(), "bias": BIAS}.items() if f" {k}" in lines}
    return parse(f"(float[{x}] x) => (float[{out}] y) {{ {lines} }}", constants=constants, opset=opset)


def _call(model: ir.Model) -> ir.Node:
    assert ops(model) == ["FusedGemm"]
    return next(iter(model.graph))


def _as_contrib(model: ir.Model) -> onnx.ModelProto:
    """The fused call handed to ONNX Runtime's own FusedGemm, attribute by attribute."""
    proto = ir.to_proto(model)
    del proto.functions[:]
    proto.graph.node[0].domain = "com.microsoft"
    proto.graph.node[0].op_type = "FusedGemm"
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("parameters", ["default", "special"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_means_what_the_runtime_takes_it_for(activation: str, parameters: str) -> None:
    own = SPECIAL.get(activation, "") if parameters == "special" else ""
    model = _model(f"g = Gemm(x, w, bias) y = {activation}{own}(g)")
    fused_same(model, FusedGemm())
    assert _call(model).attributes["activation"].as_string() == activation
    x = _GENERATOR.standard_normal((2, 4)).astype("f4")
    bodies = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": x})
    kernel = ort.InferenceSession(_as_contrib(model).SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(kernel[0], bodies[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_default_parameters_are_those_of_the_op(activation: str) -> None:
    schema = onnx.defs.get_schema(activation, 20)
    for name, (_, default) in ACTIVATIONS[activation].items():
        assert schema.attributes[name].default_value.f == pytest.approx(default, rel=1e-6)
    assert set(schema.attributes) == set(ACTIVATIONS[activation])


@pytest.mark.parametrize("add", ["a = Add(p, bias)", "a = Add( bias, p)"])
def test_bias_and_activation_of_a_product(add: str) -> None:
    model = _model(f"p = MatMul(x, w) {add} y = Relu(a)")
    fused_same(model, FusedGemm())
    assert [value.name for value in _call(model).inputs] == ["x", "w", "bias"]


def test_bias_alone() -> None:
    model = _model("p = MatMul(x, w) y = Add(p, bias)")
    fused_same(model, FusedGemm())
    assert "activation" not in _call(model).attributes


def test_attributes_of_gemm_are_kept() -> None:
    model = _model(
        "g = Gemm<alpha = 0.5, beta = 2.0, transA = 1, transB = 1>(x, wt, bias) y = Tanh(g)", x="4,B"
    )
    fused_same(model, FusedGemm())
    values = {name: attribute.value for name, attribute in _call(model).attributes.items()}
    assert values == {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1, "activation": "Tanh"}


def test_bias_behind_a_gemm_that_scales_has_beta_one() -> None:
    model = _model("g = Gemm<alpha = 0.5, beta = 3.0>(x, w) y = Add(g, bias)")
    fused_same(model, FusedGemm())
    assert _call(model).attributes["beta"].as_float() == 1.0


@pytest.mark.parametrize(
    ("lines", "shapes"),
    [
        ("y = MatMul(x, w)", {}),
        ("y = Gemm(x, w, bias)", {}),
        ("p = MatMul(x, w) y = Neg(p)", {}),
        ("p = MatMul(x, w) y = Relu(p)", {"x": "B,S,4", "out": "B,S,3"}),
        ("g = Gemm(x, w, bias) s = Relu(g) y = Add(s, g)", {}),
    ],
)
def test_something_else(lines: str, shapes: dict[str, str]) -> None:
    done = fuse(_model(lines, **shapes), FusedGemm())
    assert not done.matched and not done.skipped


def test_integers_are_left_alone() -> None:
    model = parse(
        "(int32[B,4] x) => (int32[B,3] y) { p = MatMul(x, w) y = Add(p, b) }",
        constants={"w": np.ones((4, 3), np.int32), "b": np.ones(3, np.int32)},
    )
    assert not fuse(model, FusedGemm()).matched


def test_fusing_again_changes_nothing() -> None:
    model = _model("g = Gemm(x, w, bias) y = Relu(g)")
    fuse(model, FusedGemm())
    assert not fuse(model, FusedGemm()).matched
    assert run(model)[0].min() == 0.0


def test_a_quantized_product_is_left_to_the_runtime() -> None:
    constants = {"q": np.ones((4, 3), np.int8), "scale": np.float32(0.1)}
    text = "(float[B,4] x) => (float[B,3] y) { w = DequantizeLinear(q, scale) g = Gemm(x, w) y = Relu(g) }"
    model = parse(text, constants=constants)
    fuse(model, FusedGemm())
    assert ops(model) == ["DequantizeLinear", "Gemm", "Relu"]
