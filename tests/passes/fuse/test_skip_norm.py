"""A residual Add joins its norm when its shapes fit, with the bias before it; its sum stays readable."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fusing import fuse, fused_same, ops, parse

from optc.passes.fuse.layer_norm import LayerNorm
from optc.passes.fuse.rms_norm import RMSNorm
from optc.passes.fuse.skip_norm import SkipNorm

VECTORS = {
    name: np.linspace(low, 1.5, 4, dtype=np.float32)
    for name, low in (("gamma", 0.5), ("beta", -1.0), ("bias", -0.5), ("other", 0.1))
}
LAYER = "n = LayerNormalization(t, gamma, beta) "
RMS = "n = RMSNormalization(t, gamma) "
PATTERNS = (LayerNorm(), RMSNorm(), SkipNorm())


def _model(
    lines: str, *, a: str = "B,S,4", b: str = "B,S,4", outputs: str = "float[B,S,4] n", opset: int = 23
) -> ir.Model:
    constants = {name: array for name, array in VECTORS.items() if name in lines}
    return parse(
        f"(float[{a}] a, float[{b}] b) => ({outputs}) {{ {lines} }}", opset=opset, constants=constants
    )


def _inputs(model: ir.Model) -> list[str | None]:
    call = next(node for node in model.graph if node.domain == "optc")
    return [value.name for value in call.inputs]


@pytest.mark.parametrize("norm", [LAYER, RMS])
@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("add", ["t = Add(a, b) ", "t = Add(b, a) "])
def test_residual(norm: str, opset: int, add: str) -> None:
    if norm == RMS and opset < 23:
        pytest.skip("RMSNormalization exists from opset 23")
    model = _model(add + norm, opset=opset)
    assert fused_same(model, *PATTERNS).matched["skip_norm"] == 1
    assert ops(model) == ["SkipLayerNorm" if norm == LAYER else "SkipRMSNorm"]
    assert sorted(_inputs(model)[:2]) == ["a", "b"]
    assert len(model.graph.node(0).outputs) == 1


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("centred", [True, False])
def test_below_the_opset_of_the_norm(opset: int, centred: bool) -> None:
    over, tail = ("axes = [-1], ", "") if opset < 18 else ("", ", axes")
    mean = f"ReduceMean<{over}keepdims = 1>"
    start = f"t = Add(a, b) m = {mean}(t{tail}) d = Sub(t, m) " if centred else "d = Add(a, b) "
    root = f"q = Mul(d, d) v = {mean}(q{tail}) w = Add(v, eps) r = Sqrt(w)"
    text = f"{start} {root} u = Div(d, r) n = Mul(u, gamma)"
    constants = {"gamma": VECTORS["gamma"], "eps": np.float32(1e-5)}
    constants |= {"axes": np.array([-1])} if opset >= 18 else {}
    model = parse(
        f"(float[B,S,4] a, float[B,S,4] b) => (float[B,S,4] n) {{ {text} }}", opset=opset, constants=constants
    )
    fused_same(model, *PATTERNS)
    assert ops(model) == ["SkipLayerNorm" if centred else "SkipRMSNorm"]


@pytest.mark.parametrize("norm", [LAYER, RMS])
@pytest.mark.parametrize(
    "adds",
    [
        "c = Add(a, bias) t = Add(c, b) ",
        "c = Add(bias, a) t = Add(b, c) ",
        "c = Add(a, bias) t = Add(b, c) ",
    ],
)
def test_bias_before_the_residual(norm: str, adds: str) -> None:
    model = _model(adds + norm)
    fused_same(model, *PATTERNS)
    assert len(ops(model)) == 1
    assert _inputs(model)[:2] == ["a", "b"] and _inputs(model)[-1] == "bias"


@pytest.mark.parametrize("norm", [LAYER, RMS])
def test_sum_that_others_read_is_a_second_output(norm: str) -> None:
    model = _model(
        f"t = Add(a, b) {norm} z = Neg(t)", outputs="float[B,S,4] n, float[B,S,4] z, float[B,S,4] t"
    )
    fused_same(model, *PATTERNS)
    assert ops(model)[1:] == ["Neg"] and ops(model)[0].startswith("Skip")
    assert [value.name for value in model.graph.outputs] == ["n", "z", "t"]


def test_sum_with_constants_that_come_after_it() -> None:
    model = _model(
        "t = Add(a, b) z = Neg(t) "
        "g = Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>() n = LayerNormalization(t, g)",
        outputs="float[B,S,4] n, float[B,S,4] z",
    )
    fused_same(model, *PATTERNS)
    assert sorted(ops(model)) == ["Neg", "SkipLayerNorm"]


def test_sum_with_a_scale_computed_from_it_is_refused() -> None:
    model = parse(
        "(float[B,4] a, float[B,4] b) => (float[B,4] n, float[4] g)"
        " { t = Add(a, b) g = ReduceMax<keepdims = 0>(t, axes) n = LayerNormalization(t, g) }",
        constants={"axes": np.array([0])},
    )
    done = fused_same(model, *PATTERNS)
    assert "computed after it" in done.skipped[0].reason


@pytest.mark.parametrize(("b", "smaller"), [("1,S,4", "b"), ("S,4", "b"), ("4", "b"), ("B,1,4", "b")])
def test_skip_that_broadcasts_into_x(b: str, smaller: str) -> None:
    for add in ("t = Add(a, b) ", "t = Add(b, a) "):
        model = _model(add + LAYER, b=b)
        fused_same(model, *PATTERNS)
        assert ops(model) == ["SkipLayerNorm"] and _inputs(model)[1] == smaller


@pytest.mark.parametrize(("a", "b"), [("B,1,4", "1,S,4"), ("B,S,4", "T,S,4"), ("B,S,4", "B,T,4")])
def test_shapes_that_may_differ_are_refused(a: str, b: str) -> None:
    model = _model("t = Add(a, b) " + LAYER, a=a, b=b)
    done = fuse(model, *PATTERNS)
    assert done.matched == {"layer_norm": 1}
    assert "not known to be equal" in done.skipped[0].reason


def test_bias_alone_is_no_residual() -> None:
    done = fuse(_model("t = Add(a, bias) " + LAYER), *PATTERNS)
    assert done.matched == {"layer_norm": 1} and not done.skipped


def test_third_summand_is_no_bias() -> None:
    text = "(float[B,4] a, float[B,4] b, float[B,4] c) => (float[B,4] n)"
    model = parse(
        f"{text} {{ s = Add(a, c) t = Add(s, b) n = LayerNormalization(t, gamma) }}",
        constants={"gamma": VECTORS["gamma"]},
    )
    fused_same(model, *PATTERNS)
    assert ops(model) == ["Add", "SkipLayerNorm"]
    assert len(next(n for n in model.graph if n.domain == "optc").inputs) == 3


def test_sum_with_one_late_shift_is_refused() -> None:
    text = "(float[B,4] a, float[B,4] b) => (float[B,4] n, float[B,4] t)"
    model = parse(
        f"{text} {{ t = Add(a, b) s = ReduceMax<keepdims = 0>(t, axes) "
        "n = LayerNormalization(t, gamma, s) }",
        constants={"axes": np.array([0]), "gamma": VECTORS["gamma"]},
    )
    assert "computed after it" in fused_same(model, *PATTERNS).skipped[0].reason


def test_bias_whose_sum_is_read_elsewhere_stays_outside() -> None:
    model = _model(
        f"c = Add(a, bias) t = Add(c, b) {LAYER} z = Neg(c)", outputs="float[B,S,4] n, float[B,S,4] z"
    )
    fused_same(model, *PATTERNS)
    assert sorted(ops(model)) == ["Add", "Neg", "SkipLayerNorm"]


def test_norm_over_two_axes_is_refused() -> None:
    model = parse(
        "(float[B,2,4] a, float[B,2,4] b) => (float[B,2,4] n)"
        " { t = Add(a, b) n = LayerNormalization<axis = 1>(t, g) }",
        constants={"g": np.ones((2, 4), np.float32)},
    )
    assert "more than the last axis" in fuse(model, *PATTERNS).skipped[0].reason


def test_residual_outside_of_the_branch_of_the_norm_is_refused() -> None:
    model = parse(
        "(float[B,4] a, float[B,4] b, bool c) => (float[B,4] y) { t = Add(a, b) "
        "y = If(c) <then_branch = left () => (float[B,4] n) { n = LayerNormalization(t, gamma) },"
        " else_branch = right () => (float[B,4] m) { m = Neg(t) }> }",
        constants={"gamma": VECTORS["gamma"]},
    )
    done = fuse(model, *PATTERNS)
    assert "outside of the subgraph" in done.skipped[0].reason


def test_fusing_again_changes_nothing() -> None:
    model = _model("t = Add(a, b) " + LAYER)
    fuse(model, *PATTERNS)
    assert not fuse(model, *PATTERNS).matched
