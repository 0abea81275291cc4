"""RMS norms are recognised as Llama, T5 and Gemma write them, in float and in half precision."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.layer_norm import LayerNorm
from optc.passes.fuse.rms_norm import RMSNorm

GAMMA = np.linspace(0.5, 1.5, 4, dtype=np.float32)
FORMS = {
    "llama": "q = Pow(x, two) v = Mean(q) a = Add(v, eps) r = Sqrt(a) i = Reciprocal(r) n = Mul(x, i)",
    "llama div": "q = Mul(x, x) v = Mean(q) a = Add(eps, v) r = Sqrt(a) i = Div(one, r) n = Mul(i, x)",
    "plain": "q = Pow(x, two) v = Mean(q) a = Add(v, eps) r = Sqrt(a) n = Div(x, r)",
    "power": "q = Mul(x, x) v = Mean(q) a = Add(v, eps) i = Pow(a, minus) n = Mul(x, i)",
}
ROOT = "q = Pow(x, two) v = Mean(q) a = Add(v, eps) r = Sqrt(a) i = Reciprocal(r) "
SCALED_ROOT = ROOT + "s = Mul(i, gamma) y = Mul(x, s)"
SCALARS = {"two": 2.0, "one": 1.0, "minus": -0.5, "eps": 1e-6}


def _model(lines: str, *, opset: int = 20, half: bool = False, **given: np.ndarray) -> ir.Model:
    constants = (
        {name: np.array(value, np.float32) for name, value in SCALARS.items()} | {"gamma": GAMMA} | given
    )
    if opset < 18:
        lines = lines.replace("Mean(q)", "ReduceMean<axes = [-1], keepdims = 1>(q)")
    else:
        lines = lines.replace("Mean(q)", "ReduceMean<keepdims = 1>(q, axes)")
        constants["axes"] = np.array([-1])
    dtype, x = ("float16", "x16") if half else ("float", "x")
    lines = f"x = Cast<to = 1>(x16) {lines}" if half else lines
    used = {k: v for k, v in constants.items() if k in lines}
    text = f"({dtype}[B,S,4] {x}) => ({dtype}[B,S,4] y) {{ {lines} }}"
    return parse(text, opset=opset, constants=used)


def _call(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.domain == "optc")


@pytest.mark.parametrize("opset", [13, 18, 23])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["y = Mul(gamma, n)", "y = Mul(n, gamma)"])
def test_float(form: str, end: str, opset: int) -> None:
    model = _model(f"{FORMS[form]} {end}", opset=opset)
    assert fused_same(model, RMSNorm()).matched == {"rms_norm": 1}
    assert ops(model) == ["RMSNorm"]
    assert [value.name for value in _call(model).inputs] == ["x", "gamma"]
    assert _call(model).attributes["epsilon"].as_float() == pytest.approx(1e-6)
    [body] = model.functions.values()
    assert ([node.op_type for node in body] == ["RMSNormalization"]) == (opset >= 23)


def test_scale_multiplied_into_the_inverse_root() -> None:
    model = _model(SCALED_ROOT)
    fused_same(model, RMSNorm())
    assert ops(model) == ["RMSNorm"]


def test_scale_of_another_shape_in_the_inverse_root_is_refused() -> None:
    model = _model(SCALED_ROOT, gamma=np.full((5, 4), 2.0, np.float32))
    assert "not one number per normalised element" in refusal(model, RMSNorm())


def test_inverse_root_times_something_else_is_something_else() -> None:
    model = _model(SCALED_ROOT.replace("y = Mul(x, s)", "z = Neg(s) y = Mul(x, z)"))
    done = fuse(model, RMSNorm())
    assert not done.matched and not done.skipped


def test_without_scale_over_a_dynamic_size_is_refused() -> None:
    lines = FORMS["plain"].replace("Mean(q)", "ReduceMean(q, axes)").replace("n = ", "y = ")
    constants = {"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-6)}
    model = parse(f"(float[B,S] x) => (float[B,S] y) {{ {lines} }}", constants=constants)
    assert "the size that it normalises over is not known" in refusal(model, RMSNorm())


def test_axes_that_are_computed_are_something_else() -> None:
    body = FORMS["plain"].replace("Mean(q)", "ReduceMean(q, axes)").replace("n = ", "y = ")
    constants = {"two": np.float32(2), "eps": np.float32(1e-6)}
    model = parse(f"(float[B,4] x, int64[1] axes) => (float[B,4] y) {{ {body} }}", constants=constants)
    assert not fuse(model, RMSNorm()).matched


def test_without_scale() -> None:
    model = _model(FORMS["llama"] + " y = Neg(n)")
    fused_same(model, RMSNorm())
    assert ops(model) == ["RMSNorm", "Neg"]


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_llama_in_half_precision(opset: int) -> None:
    model = _model(
        FORMS["llama"] + " h = Cast<to = 10>(n) y = Mul(gamma, h)",
        opset=opset,
        half=True,
        gamma=GAMMA.astype(np.float16),
    )
    fused_same(model, RMSNorm(), rtol=2e-3, atol=2e-3)
    assert ops(model) == ["RMSNorm"]
    assert _call(model).inputs[0].name == "x16"


@pytest.mark.parametrize("opset", [13, 23])
def test_gemma_in_half_precision_scales_in_float(opset: int) -> None:
    model = _model(
        FORMS["llama"] + " g = Add(gamma, one) s = Mul(n, g) y = Cast<to = 10>(s)", opset=opset, half=True
    )
    fused_same(model, RMSNorm(), rtol=2e-3, atol=2e-3)
    assert sorted(ops(model)) == ["Add", "Cast", "Cast", "RMSNorm"]
    assert [value.name for value in _call(model).inputs] == ["x", "g"]


def test_cast_that_others_read_is_kept() -> None:
    text = FORMS["llama"].replace("Mean(q)", "ReduceMean(q, axes)")
    model = parse(
        "(float16[B,4] x16) => (float16[B,4] y, float[B,4] z)"
        f" {{ x = Cast<to = 1>(x16) {text} y = Cast<to = 10>(n) z = Neg(x) }}",
        constants={"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-6)},
    )
    fused_same(model, RMSNorm(), rtol=2e-3, atol=2e-3)
    assert sorted(ops(model)) == ["Cast", "Neg", "RMSNorm"]


def test_native() -> None:
    model = _model("y = RMSNormalization<axis = 2>(x, gamma)", opset=23)
    fused_same(model, RMSNorm())
    assert ops(model) == ["RMSNorm"] and _call(model).attributes["axis"].as_int() == -1


def test_layer_norm_is_left_to_its_own_pattern() -> None:
    lines = (
        "m = ReduceMean(x, axes) d = Sub(x, m) " + FORMS["plain"].replace("x,", "d,") + " y = Mul(n, gamma)"
    )
    model = _model(lines)
    assert not fuse(model, RMSNorm()).skipped and "RMSNorm" not in ops(model)
    assert fuse(model, LayerNorm(), RMSNorm()).matched == {"layer_norm": 1}


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("a = Add(v, eps) r = Sqrt(a)", "r = Sqrt(v)", "no constant epsilon"),
        ("a = Add(v, eps) r = Sqrt(a)", "a = Sqrt(v) r = Add(a, eps)", "outside of the square root"),
    ],
)
def test_refused_with_a_reason(right: str, wrong: str, reason: str) -> None:
    model = _model(FORMS["plain"].replace(right, wrong) + " y = Mul(n, gamma)")
    assert reason in refusal(model, RMSNorm())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("q = Pow(x, two)", "q = Pow(x, one)"),
        ("q = Pow(x, two)", "q = Mul(x, two)"),
        ("q = Pow(x, two)", "q = Mul(two, x)"),
        ("n = Div(x, r)", "n = Div(r, x)"),
    ],
)
def test_other_formulas_are_something_else(right: str, wrong: str) -> None:
    done = fuse(_model(FORMS["plain"].replace(right, wrong) + " y = Mul(n, gamma)"), RMSNorm())
    assert not done.matched and not done.skipped


def test_mean_that_drops_its_axis_is_something_else() -> None:
    body = "q = Mul(x, x) v = ReduceMean<keepdims = 0>(q, axes) a = Add(v, eps) r = Sqrt(a) y = Div(x, r)"
    text = f"(float[4] x) => (float[4] y) {{ {body} }}"
    model = parse(text, constants={"axes": np.array([-1]), "eps": np.float32(1e-6)})
    assert not fuse(model, RMSNorm()).matched


def test_double_keeps_its_precision() -> None:
    body = (FORMS["plain"] + " y = Mul(n, gamma)").replace("Mean(q)", "ReduceMean(q, axes)")
    constants = {k: np.array(v, np.float64) for k, v in SCALARS.items() if k in body}
    constants |= {"gamma": GAMMA.astype(np.float64), "axes": np.array([-1])}
    for opset in (18, 23):
        model = parse(f"(double[B,4] x) => (double[B,4] y) {{ {body} }}", opset=opset, constants=constants)
        assert model.graph.inputs[0].dtype == onnx.TensorProto.DOUBLE
        fused_same(model, RMSNorm(), rtol=1e-7, atol=1e-9)
        assert ops(model) == ["RMSNorm"]
