"""Bias, residual and activation join a convolution in the order in which FusedConv applies them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.conv import ACTIVATIONS, FusedConv

_GENERATOR = np.random.default_rng(0)
W = _GENERATOR.standard_normal((2, 2, 3, 3)).astype("f4")
CHANNEL = np.array([0.5, -0.5], np.float32)
SCALARS = {"zero": np.float32(0), "six": np.float32(6), "minus": np.float32(-1)}
CONV = "Conv<pads = [1, 1, 1, 1]>"
SPECIAL = {"LeakyRelu": "<alpha = 0.3>", "HardSigmoid": "<alpha = 0.3, beta = 0.4>"}


def _model(lines: str, *, r: str = "B,2,6,6", out: str = "B,2,6,6", **given: np.ndarray) -> ir.Model:
    constants = {"w": W, "bias": CHANNEL, **SCALARS, **given}
    used = {k: v for k, v in constants.items() if f"{k}," in lines or f"{k})" in lines}
    return parse(f"(float[B,2,6,6] x, float[{r}] r) => (float[{out}] y) {{ {lines} }}", constants=used)


def _call(model: ir.Model) -> ir.Node:
    assert ops(model) == ["FusedConv"]
    return next(node for node in model.graph if node.domain == "optc")


def _formals(model: ir.Model) -> list[str | None]:
    return [value.name for value in next(iter(model.functions.values())).inputs]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_means_what_the_runtime_takes_it_for(activation: str, residual: bool) -> None:
    add = "a = Add(c, r)" if residual else "a = Add(c, bias)"
    bounds = ", zero, six" if activation == "Clip" else ""
    own = SPECIAL.get(activation, "")
    constants = {} if residual else {"bias": CHANNEL.reshape(1, 2, 1, 1)}
    model = _model(f"c = {CONV}(x, w) {add} y = {activation}{own}(a{bounds})", **constants)
    fused_same(model, FusedConv())
    assert _call(model).attributes["activation"].as_string() == activation
    feeds = {name: _GENERATOR.standard_normal((2, 2, 6, 6)).astype("f4") for name in ("x", "r")}
    bodies = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, feeds)
    kernel = ort.InferenceSession(_as_contrib(model, residual).SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(kernel[0], bodies[0], rtol=1e-5, atol=1e-6)


def _as_contrib(model: ir.Model, residual: bool) -> onnx.ModelProto:
    """The fused call handed to ONNX Runtime's own FusedConv, input by input."""
    proto = ir.to_proto(model)
    del proto.functions[:]
    node = next(n for n in proto.graph.node if n.domain == "optc")
    node.domain, node.op_type = "com.microsoft", "FusedConv"
    if residual:
        node.input.insert(2, "")
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("order", ["Add(b, r)", "Add(r, b)"])
def test_bias_residual_and_activation(order: str) -> None:
    model = _model(f"b = {CONV}(x, w, bias) a = {order} y = Relu(a)")
    fused_same(model, FusedConv())
    assert [value.name for value in _call(model).inputs] == ["x", "w", "bias", "r"]
    assert _formals(model) == ["x", "w", "b", "residual"]


@pytest.mark.parametrize("activation", ["LeakyRelu", "HardSigmoid"])
def test_default_parameters_are_those_of_the_op(activation: str) -> None:
    model = _model(f"c = {CONV}(x, w) y = {activation}(c)")
    fused_same(model, FusedConv())
    attributes = onnx.defs.get_schema(activation, 20).attributes
    expected = [attributes[name].default_value.f for name in ACTIVATIONS[activation]]
    assert list(_call(model).attributes["activation_params"].as_floats()) == pytest.approx(expected)


def test_residual_alone() -> None:
    model = _model(f"c = {CONV}(x, w) y = Add(c, r)")
    fused_same(model, FusedConv())
    assert _formals(model) == ["x", "w", "residual"]
    assert "activation" not in _call(model).attributes


def test_attributes_of_the_convolution_are_kept() -> None:
    model = _model(
        'c = Conv<auto_pad = "SAME_UPPER", strides = [2, 2], dilations = [1, 1], '
        "group = 2, kernel_shape = [3, 3]>(x, w) y = Relu(c)",
        w=W[:, :1].copy(),
        out="B,2,3,3",
    )
    fused_same(model, FusedConv())
    values = {name: attribute.value for name, attribute in _call(model).attributes.items()}
    assert values["auto_pad"] == "SAME_UPPER" and list(values["strides"]) == [2, 2] and values["group"] == 2


@pytest.mark.parametrize(
    ("bounds", "expected"), [("zero, six", [0, 6]), ("zero", [0, 3.4028234663852886e38])]
)
def test_clip_bounds(bounds: str, expected: list[float]) -> None:
    model = _model(f"c = {CONV}(x, w) y = Clip(c, {bounds})")
    fused_same(model, FusedConv())
    assert list(_call(model).attributes["activation_params"].as_floats()) == pytest.approx(expected)


@pytest.mark.parametrize("clip", ["Clip(c, six, minus)", "Clip(c, zero, high)"])
def test_clip_without_two_ordered_constants_stays_outside(clip: str) -> None:
    high = "high = ReduceMax<keepdims = 0>(r) " if "high" in clip else ""
    assert not fuse(_model(f"{high}c = {CONV}(x, w) y = {clip}"), FusedConv()).matched


@pytest.mark.parametrize("shape", [(6,), (1, 1, 1, 1), (1, 2, 1, 6), (2, 1, 1, 1)])
def test_add_that_is_no_bias_per_channel_stays_outside(shape: tuple[int, ...]) -> None:
    model = _model(f"c = {CONV}(x, w) y = Add(c, k)", k=np.ones(shape, np.float32), out="D,2,6,6")
    assert not fuse(model, FusedConv()).matched


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 2, 1, 1)])
def test_bias_with_broadcasting_dimensions(shape: tuple[int, ...]) -> None:
    model = _model(f"c = {CONV}(x, w) y = Add(c, k)", k=CHANNEL.reshape(shape))
    fused_same(model, FusedConv())
    assert _call(model).inputs[2].shape == [2]


@pytest.mark.parametrize("shape", ["B,2,1,1", "1,2,1,1"])
def test_computed_number_per_channel_is_something_else(shape: str) -> None:
    done = fuse(_model(f"c = {CONV}(x, w) y = Add(c, r)", r=shape), FusedConv())
    assert not done.matched and not done.skipped


def test_residual_whose_shape_may_differ_is_refused() -> None:
    assert "may differ" in refusal(_model(f"c = {CONV}(x, w) y = Add(c, r)", r="T,2,6,6"), FusedConv())


@pytest.mark.parametrize(
    "lines", ["y = {c}(x, w)", "c = {c}(x, w) s = Sigmoid(c) y = Mul(c, s)", "c = {c}(x, w) y = Add(c, c)"]
)
def test_something_else(lines: str) -> None:
    done = fuse(_model(lines.format(c=CONV)), FusedConv())
    assert not done.matched and not done.skipped


def test_two_convolutions_added_are_fused_once() -> None:
    model = _model(f"c = {CONV}(x, w) d = {CONV}(r, w) a = Add(c, d) y = Relu(a)")
    assert fused_same(model, FusedConv()).matched == {"conv": 1}
    assert sorted(ops(model)) == ["Conv", "FusedConv"]


def test_fusing_again_changes_nothing() -> None:
    model = _model(f"c = {CONV}(x, w) y = Relu(c)")
    fuse(model, FusedConv())
    assert not fuse(model, FusedConv()).matched


def test_a_quantized_convolution_is_left_to_the_runtime() -> None:
    codes, scale = np.ones((2, 2, 3, 3), np.int8), np.float32(0.1)
    model = _model(f"d = DequantizeLinear(q, scale) c = {CONV}(x, d) y = Relu(c)", q=codes, scale=scale)
    fuse(model, FusedConv())
    assert ops(model) == ["DequantizeLinear", "Conv", "Relu"]
