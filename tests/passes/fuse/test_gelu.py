"""GELU is recognised in every way of writing it, and only when each constant is right."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.gelu import Gelu

ROOT, CUBIC = 0.7978845608028654, 0.044715
ERF = {
    "halved last": "a = Div(x, r) e = Erf(a) g = Add(e, one) m = Mul(x, g) y = Mul(m, half)",
    "halved first": "a = Div(x, r) e = Erf(a) g = Add(one, e) m = Mul(half, x) y = Mul(m, g)",
    "halved gate": "a = Mul(i, x) e = Erf(a) g = Add(e, one) m = Mul(g, half) y = Mul(x, m)",
    "divided by two": "a = Div(x, r) e = Erf(a) g = Add(e, one) m = Mul(x, g) y = Div(m, two)",
    "distribution": "a = Mul(x, i) e = Erf(a) h = Mul(e, half) g = Add(half, h) y = Mul(x, g)",
    "distributed": "a = Mul(x, i) e = Erf(a) h = Mul(x, half) m = Mul(h, e) y = Add(h, m)",
}
TANH = {
    "pow": "c = Pow(x, three) d = Mul(c, cubic) s = Add(x, d) a = Mul(s, k) t = Tanh(a)",
    "cube by hand": "q = Mul(x, x) c = Mul(q, x) d = Mul(cubic, c) s = Add(d, x) a = Mul(k, s) t = Tanh(a)",
    "factored": "q = Mul(x, x) d = Mul(q, cubic) s = Add(d, one) m = Mul(x, s) a = Mul(m, k) t = Tanh(a)",
    "scaled first": "p = Mul(x, k) q = Mul(cubic, x) o = Mul(q, x) s = Add(o, one) a = Mul(p, s) t = Tanh(a)",
}
OUTER = " g = Add(t, one) h = Mul(x, half) y = Mul(h, g)"
QUICK = "a = Mul(x, q) s = Sigmoid(a) y = Mul(s, x)"
CONSTANTS = {
    "r": 2**0.5,
    "i": 0.5**0.5,
    "one": 1,
    "half": 0.5,
    "two": 2,
    "three": 3,
    "cubic": CUBIC,
    "k": ROOT,
}


def _model(lines: str, dtype: str = "float", opset: int = 20, **changed: float) -> ir.Model:
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    constants = {k: np.array(v, kind) for k, v in {**CONSTANTS, **changed}.items() if f"{k}" in lines}
    return parse(f"({dtype}[B,4] x) => ({dtype}[B,4] y) {{\n{lines}\n}}", opset=opset, constants=constants)


@pytest.mark.parametrize("opset", [13, 17, 20, 23])
@pytest.mark.parametrize("form", ERF)
def test_erf_form(form: str, opset: int) -> None:
    model = _model(ERF[form], opset=opset)
    assert fused_same(model, Gelu()).matched == {"gelu": 1}
    assert ops(model) == ["Gelu"]
    assert model.graph.node(0).attributes["approximate"].as_string() == "none"


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("form", TANH)
@pytest.mark.parametrize("dtype", ["float", "float16", "double"])
def test_tanh_form(form: str, opset: int, dtype: str) -> None:
    model = _model(TANH[form] + OUTER, dtype, opset)
    tolerance = 5e-3 if dtype == "float16" else 1e-6
    fused_same(model, Gelu(), rtol=tolerance, atol=tolerance)
    assert ops(model) == ["Gelu"]
    assert model.graph.node(0).attributes["approximate"].as_string() == "tanh"


@pytest.mark.parametrize("lines", [QUICK, "a = Mul(q, x) s = Sigmoid(a) y = Mul(x, s)"])
def test_sigmoid_form(lines: str) -> None:
    model = _model(lines, q=1.702)
    fused_same(model, Gelu())
    assert ops(model) == ["Gelu"]
    assert model.graph.node(0).attributes["approximate"].as_string() == "quick"


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_native_gelu(approximate: str) -> None:
    model = parse(f'(float[B,4] x) => (float[B,4] y) {{ y = Gelu <approximate = "{approximate}"> (x) }}')
    fused_same(model, Gelu())
    assert ops(model) == ["Gelu"] and model.graph.node(0).domain == "optc"


@pytest.mark.parametrize(
    ("lines", "changed", "reason"),
    [
        (ERF["halved last"], {"r": 1.5}, "x^1 is 0.6666667, not 0.7071068"),
        (ERF["halved last"], {"r": 1.41421}, "not 0.7071068"),
        (ERF["halved last"], {"one": 1.1}, "outer constant is 0.55, not 0.5"),
        (ERF["halved last"], {"half": 0.51}, "outer constant is 0.51, not 0.5"),
        (
            TANH["pow"] + OUTER,
            {"cubic": 0.0447},
            "constant of x^3",
        ),
        (TANH["pow"] + OUTER, {"k": 0.798}, "constant of x^1"),
        (QUICK, {"q": 1.7}, "is 1.7, not 1.702 as in 1.702 * x"),
    ],
)
def test_wrong_constant_is_refused_with_the_constant(
    lines: str, changed: dict[str, float], reason: str
) -> None:
    assert reason in refusal(_model(lines, **changed), Gelu())


def test_half_precision_accepts_the_rounded_constant_but_not_its_neighbour() -> None:
    rounded = np.float16(1.702)
    fuse(accepted := _model(QUICK, "float16", q=float(rounded)), Gelu())
    assert ops(accepted) == ["Gelu"]
    neighbour = float(np.nextafter(np.nextafter(rounded, np.float16(2)), np.float16(2)))
    assert "not 1.702" in refusal(_model(QUICK, "float16", q=neighbour), Gelu())


def test_intermediate_that_is_read_elsewhere_is_kept() -> None:
    lines = "a = Div(x, r)\ne = Erf(a)\ng = Add(e, one)\nm = Mul(x, g)\ny = Mul(m, half)\nz = Neg(g)"
    constants = {k: np.array(v, np.float32) for k, v in CONSTANTS.items() if k in ("r", "one", "half")}
    model = parse(f"(float[B,4] x) => (float[B,4] y, float[B,4] z) {{\n{lines}\n}}", constants=constants)
    assert "'g' has another reader" in refusal(model, Gelu())


def test_constant_that_raises_the_rank_is_not_fused() -> None:
    model = parse(
        f"(float[4] x) => (float[1,4] y) {{ {ERF['halved last']} }}",
        constants={"r": np.array([[2**0.5]], np.float32), "one": np.float32(1), "half": np.float32(0.5)},
    )
    assert not fuse(model, Gelu()).matched


@pytest.mark.parametrize(
    "lines",
    [
        "y = Erf(x)",
        "t = Tanh(x) y = Mul(t, x)",
        TANH["pow"].replace("three", "two") + OUTER,
        "s = Sigmoid(x) y = Mul(s, x)",
    ],
)
def test_other_functions_are_no_near_misses(lines: str) -> None:
    done = fuse(_model(lines), Gelu())
    assert not done.matched and not done.skipped


def test_fusing_again_changes_nothing() -> None:
    model = _model(ERF["halved last"])
    fuse(model, Gelu())
    assert not fuse(model, Gelu()).matched
