"""Activations compute the same in the runtime's kernels as their bodies do."""

from __future__ import annotations

import numpy as np
import pytest
from fused_calls import assert_lowers, call_model, legalized, ops

BODIES = {
    "none": "r = Constant<value_float=1.4142135623730951>() q = Div(z, r) f = Erf(q)"
    " g = Add(f, one) p = Mul(z, g) y = Mul(p, half)",
    "tanh": "c3 = Constant<value_float=3.0>() w = Pow(z, c3) k = Constant<value_float=0.044715>()"
    " kw = Mul(w, k) i = Add(z, kw) r = Constant<value_float=0.7978845608028654>() u = Mul(i, r)"
    " f = Tanh(u) g = Add(f, one) p = Mul(z, g) y = Mul(p, half)",
    "quick": "a = Constant<value_float=1.702>() u = Mul(z, a) f = Sigmoid(u) y = Mul(z, f)",
}
CONSTANTS = "one = Constant<value_float=1.0>() half = Constant<value_float=0.5>() "
SHAPES = [(3, 5, 8), (8,), (), (0, 8), (2, 3, 1, 8)]


def data(shape: tuple[int, ...]) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 4
    return np.asarray(x, np.float32)


def gelu(kind: str, shape: tuple[int, ...], opset: int, bias: tuple[int, ...] | None = None):
    start = "z = Identity(x) " if bias is None else "z = Add(x, bias) "
    names = {"x": ("f", shape)} | ({} if bias is None else {"bias": ("f", bias)})
    body = f"({', '.join(names)}) => (y) {{ {start}{CONSTANTS}{BODIES[kind]} }}"
    name = "Gelu" if bias is None else "BiasGelu"
    return call_model(name, names, body, {"approximate": kind}, [("f", shape)], opset=opset)


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("kind", sorted(BODIES))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gelu(shape: tuple[int, ...], kind: str, opset: int) -> None:
    model = gelu(kind, shape, opset)
    if kind == "tanh" and opset < 20 and not shape:
        assert "does not take scalars" in legalized(model)[1].skipped[0].reason
        return
    assert len(ops(assert_lowers(model, {"x": data(shape)}))) == 1


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("kind,kernel", [("none", "BiasGelu"), ("tanh", "FastGelu")])
@pytest.mark.parametrize("shape", [(3, 5, 8), (8,), (0, 8)], ids=str)
def test_bias_gelu_in_one_kernel(shape: tuple[int, ...], kind: str, kernel: str, opset: int) -> None:
    model = gelu(kind, shape, opset, bias=(8,))
    assert ops(assert_lowers(model, {"x": data(shape), "bias": data((8,))}, gelu="BiasGelu")) == [kernel]


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_bias_gelu_as_an_addition(kind: str) -> None:
    model = gelu(kind, (3, 5, 8), 20, bias=(5, 8))
    feeds = {"x": data((3, 5, 8)), "bias": data((5, 8))}
    assert ops(assert_lowers(model, feeds, gelu="Gelu"))[0] == "Add"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_silu(shape: tuple[int, ...]) -> None:
    body = "(x) => (y) { f = Sigmoid(x) y = Mul(x, f) }"
    model = call_model("SiLU", {"x": ("f", shape)}, body, {}, [("f", shape)])
    assert ops(assert_lowers(model, {"x": data(shape)})) == ["QuickGelu"]


def test_swiglu_with_a_broadcast_gate() -> None:
    body = "(gate, up) => (y) { f = Sigmoid(gate) g = Mul(gate, f) y = Mul(g, up) }"
    model = call_model(
        "SwiGLU", {"gate": ("f", (5, 8)), "up": ("f", (3, 5, 8))}, body, {}, [("f", (3, 5, 8))]
    )
    lowered = assert_lowers(model, {"gate": data((5, 8)), "up": data((3, 5, 8))})
    assert ops(lowered) == ["QuickGelu", "Mul"]


def test_double_has_no_kernel_and_is_inlined() -> None:
    body = "(x) => (y) { f = Sigmoid(x) y = Mul(x, f) }"
    lowered, report = legalized(call_model("SiLU", {"x": ("d", (3,))}, body, {}, [("d", (3,))]))
    assert ops(lowered) == ["Sigmoid", "Mul"]
    assert "for double" in report.skipped[0].reason
