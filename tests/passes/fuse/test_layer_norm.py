"""Layer norms are recognised in every spelling; each epsilon, axis and shape is checked."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.layer_norm import LayerNorm

GAMMA = np.linspace(0.5, 1.5, 4, dtype=np.float32)
BETA = np.linspace(-1, 1, 4, dtype=np.float32)
EPSILON = 1e-5
CENTRE = "m = Mean(x) d = Sub(x, m) "
SQUARE = {"pow": "q = Pow(d, two) ", "mul": "q = Mul(d, d) "}
ROOT = {
    "div by sqrt": "v = Mean(q) a = Add(v, eps) r = Sqrt(a) n = Div(d, r) ",
    "epsilon first": "v = Mean(q) a = Add(eps, v) r = Sqrt(a) n = Div(d, r) ",
    "reciprocal": "v = Mean(q) a = Add(v, eps) r = Sqrt(a) i = Reciprocal(r) n = Mul(d, i) ",
    "one over": "v = Mean(q) a = Add(v, eps) r = Sqrt(a) i = Div(one, r) n = Mul(i, d) ",
    "power": "v = Mean(q) a = Add(v, eps) i = Pow(a, minus) n = Mul(d, i) ",
    "power of a half": "v = Mean(q) a = Add(v, eps) r = Pow(a, half) n = Div(d, r) ",
}
AFFINE = {
    "in order": "s = Mul(n, gamma) y = Add(s, beta)",
    "swapped": "s = Mul(gamma, n) y = Add(beta, s)",
}
SCALARS = {"two": 2.0, "one": 1.0, "minus": -0.5, "half": 0.5, "eps": EPSILON}


def _model(
    lines: str, *, opset: int = 20, axes: tuple[int, ...] = (-1,), dims: str = "B,S,4", **given
) -> ir.Model:
    constants = {name: np.array(value, np.float32) for name, value in SCALARS.items()}
    constants |= {"gamma": GAMMA, "beta": BETA} | given
    over = f"axes = [{','.join(map(str, axes))}], " if opset < 18 else ""
    tail = "" if opset < 18 else ", axes"
    for name in "xdq":
        lines = lines.replace(f"Mean({name})", f"ReduceMean<{over}keepdims = 1>({name}{tail})")
    if opset >= 18:
        constants["axes"] = np.array(axes)
    used = {k: v for k, v in constants.items() if k in lines.replace("epsilon", "")}
    return parse(f"(float[{dims}] x) => (float[{dims}] y) {{ {lines} }}", opset=opset, constants=used)


def _call(model: ir.Model) -> ir.Node:
    assert ops(model) == ["LayerNorm"]
    return next(node for node in model.graph if node.domain == "optc")


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
@pytest.mark.parametrize("root", ROOT)
@pytest.mark.parametrize("square", SQUARE)
def test_decomposed(square: str, root: str, opset: int) -> None:
    model = _model(CENTRE + SQUARE[square] + ROOT[root] + AFFINE["in order"], opset=opset)
    assert fused_same(model, LayerNorm()).matched == {"layer_norm": 1}
    call = _call(model)
    assert [value.name for value in call.inputs] == ["x", "gamma", "beta"]
    assert call.attributes["axis"].as_int() == -1
    assert call.attributes["epsilon"].as_float() == pytest.approx(EPSILON)


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("end", ["y = Add(s, beta)", "y = Neg(s)", ""])
def test_swapped_operands_and_missing_shift(end: str, opset: int) -> None:
    scale = "s = Mul(gamma, n) " if end else "y = Mul(gamma, n) "
    model = _model(CENTRE + SQUARE["pow"] + ROOT["div by sqrt"] + scale + end, opset=opset)
    fused_same(model, LayerNorm())
    assert ops(model)[0] == "LayerNorm"


def test_no_affine_gets_a_scale_of_ones() -> None:
    model = _model(CENTRE + SQUARE["pow"] + ROOT["div by sqrt"] + "y = Neg(n)")
    fused_same(model, LayerNorm())
    assert ops(model) == ["LayerNorm", "Neg"]


def test_scale_with_leading_ones() -> None:
    model = _model(CENTRE + SQUARE["pow"] + ROOT["div by sqrt"] + AFFINE["swapped"], gamma=GAMMA[None, None])
    fused_same(model, LayerNorm())
    assert _call(model).inputs[1].shape == [4]


@pytest.mark.parametrize("axes", [(1, 2), (-2, -1), (2, 1)])
@pytest.mark.parametrize("opset", [13, 20])
def test_several_last_axes(axes: tuple[int, ...], opset: int) -> None:
    lines = CENTRE + SQUARE["pow"] + ROOT["div by sqrt"] + AFFINE["in order"]
    both = {"gamma": np.outer([1, 2], GAMMA).astype("f4"), "beta": np.outer([1, 2], BETA).astype("f4")}
    model = _model(lines, opset=opset, axes=axes, dims="B,2,4", **both)
    fused_same(model, LayerNorm())
    assert _call(model).attributes["axis"].as_int() == -2


@pytest.mark.parametrize("opset", [13, 20])
def test_half_precision_with_float_inside(opset: int) -> None:
    end = "h = Cast<to = 10>(n) s = Mul(h, gamma) y = Add(s, beta)"
    inner = CENTRE + SQUARE["pow"] + ROOT["div by sqrt"]
    halves = {"gamma": GAMMA.astype(np.float16), "beta": BETA.astype(np.float16)}
    model = _half(ir.to_proto(_model(inner + end, opset=opset, **halves)))
    fused_same(model, LayerNorm(), rtol=2e-3, atol=2e-3)
    assert _call(model).inputs[0].name == "x16"


def _half(proto: onnx.ModelProto) -> ir.Model:
    """The same model with half precision inputs and outputs."""
    proto.graph.input[0].name = "x16"
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", ["x16"], ["x"], to=onnx.TensorProto.FLOAT))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


@pytest.mark.parametrize("scale", ["gamma", "gamma, beta"])
def test_native(scale: str) -> None:
    model = _model(f"y = LayerNormalization<axis = 2, epsilon = 0.001>(x, {scale})")
    fused_same(model, LayerNorm())
    assert _call(model).attributes["axis"].as_int() == -1
    assert _call(model).attributes["epsilon"].as_float() == pytest.approx(1e-3)


def test_native_with_a_scale_that_broadcasts() -> None:
    model = _model("y = LayerNormalization(x, one)")
    fused_same(model, LayerNorm())
    assert _call(model).inputs[1].shape == [4]


def test_native_with_a_computed_scale_that_broadcasts_is_refused() -> None:
    model = _model("g = ReduceMax<keepdims = 0>(x) y = LayerNormalization(x, g)")
    assert "does not have the normalised shape" in refusal(model, LayerNorm())


def test_native_with_double_statistics_is_refused() -> None:
    model = _model("y = LayerNormalization<stash_type = 11>(x, gamma)")
    assert "does not compute in single precision" in refusal(model, LayerNorm())


def test_native_with_its_mean_read_is_refused() -> None:
    model = _model("n, m = LayerNormalization(x, gamma) y = Sub(n, m)")
    assert "mean or deviation is read" in refusal(model, LayerNorm())


STANDARD = CENTRE + SQUARE["pow"] + ROOT["div by sqrt"] + AFFINE["in order"]


@pytest.mark.parametrize(
    ("lines", "given", "reason"),
    [
        (STANDARD, {"eps": np.float32(0.0)}, "epsilon 0.0 is not positive"),
        (STANDARD, {"eps": np.float32(-1e-5)}, "is not positive"),
        (STANDARD, {"eps": np.full(4, 1e-5, np.float32)}, "no constant epsilon"),
        (STANDARD.replace("a = Add(v, eps) r = Sqrt(a)", "r = Sqrt(v)"), {}, "no constant epsilon"),
        (
            STANDARD.replace("a = Add(v, eps) r = Sqrt(a)", "a = Sqrt(v) r = Add(a, eps)"),
            {},
            "epsilon is added outside of the square root",
        ),
        (STANDARD, {"axes": np.array([1])}, "axes [-2], which are not the last ones"),
        (STANDARD, {"axes": np.array([0, 2])}, "axes [-3, -1], which are not the last ones"),
        (STANDARD, {"axes": np.array([0])}, "not the last ones"),
    ],
)
def test_refused_with_a_reason(lines: str, given: dict[str, np.ndarray], reason: str) -> None:
    if "axes" in given:
        model = _model(lines, axes=tuple(given["axes"]))
    else:
        model = _model(lines, **given)
    assert reason in refusal(model, LayerNorm())


def test_mean_over_other_axes_is_refused() -> None:
    lines = "m = ReduceMean<keepdims = 1>(x, other) " + STANDARD.removeprefix("m = Mean(x)")
    assert "different axes" in refusal(_model(lines, other=np.array([1])), LayerNorm())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("q = Pow(d, two)", "q = Pow(d, one)"), ("n = Div(d, r)", "n = Div(x, r)"), ("Sub(x, m)", "Sub(m, x)")],
)
def test_other_formulas_are_something_else(right: str, wrong: str) -> None:
    done = fuse(_model(STANDARD.replace(right, wrong)), LayerNorm())
    assert not done.matched and not done.skipped


def test_scale_of_another_shape_stays_outside() -> None:
    model = _model(STANDARD, gamma=np.full((5, 4), 2.0, np.float32), dims="B,5,4")
    fused_same(model, LayerNorm())
    assert ops(model) == ["LayerNorm", "Mul", "Add"]


def test_intermediate_that_is_read_elsewhere_is_refused() -> None:
    model = parse(
        "(float[B,4] x) => (float[B,4] y, float[B,1] v)"
        " { m = ReduceMean(x, axes) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, axes)"
        " a = Add(v, eps) r = Sqrt(a) y = Div(d, r) }",
        constants={"axes": np.array([-1]), "eps": np.float32(1e-5)},
    )
    assert "'v' is an output of the graph" in refusal(model, LayerNorm())


def test_fusing_again_changes_nothing() -> None:
    model = _model(STANDARD)
    fuse(model, LayerNorm())
    assert not fuse(model, LayerNorm()).matched
