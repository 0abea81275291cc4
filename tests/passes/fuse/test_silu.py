"""SiLU is x * sigmoid(x), and SwiGLU a SiLU times something of the same shape."""

from __future__ import annotations

import numpy as np
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.gelu import Gelu
from optc.passes.fuse.silu import SiLU
from optc.passes.fuse.swiglu import SwiGLU

HALVES = {"half": np.float32(0.5), "one": np.float32(1)}


@pytest.mark.parametrize("mul", ["y = Mul(x, s)", "y = Mul(s, x)"])
def test_silu(mul: str) -> None:
    model = parse(f"(float[B,4] x) => (float[B,4] y) {{ s = Sigmoid(x) {mul} }}")
    assert fused_same(model, Gelu(), SiLU()).matched == {"silu": 1}
    assert ops(model) == ["SiLU"]


def test_silu_by_tanh() -> None:
    lines = "h = Mul(x, half) t = Tanh(h) g = Add(t, one) m = Mul(g, x) y = Mul(m, half)"
    model = parse(f"(float[B,4] x) => (float[B,4] y) {{ {lines} }}", constants=HALVES)
    fused_same(model, Gelu(), SiLU())
    assert ops(model) == ["SiLU"]


def test_native_swish() -> None:
    model = parse("(float[B,4] x) => (float[B,4] y) { y = Swish(x) }", opset=24)
    fuse(model, SiLU())
    assert ops(model) == ["SiLU"]
    other = parse("(float[B,4] x) => (float[B,4] y) { y = Swish<alpha = 1.5>(x) }", opset=24)
    assert "alpha of Swish is not 1" in refusal(other, SiLU())


def test_scaled_sigmoid_is_no_silu() -> None:
    model = parse(
        "(float[B,4] x) => (float[B,4] y) { a = Mul(x, c) s = Sigmoid(a) y = Mul(x, s) }",
        constants={"c": np.float32(1.001)},
    )
    assert not fuse(model, SiLU()).matched


def test_sigmoid_that_is_read_elsewhere_is_refused() -> None:
    model = parse(
        "(float[B,4] x) => (float[B,4] y, float[B,4] z) { s = Sigmoid(x) y = Mul(x, s) z = Neg(s) }"
    )
    assert "'s' has another reader" in refusal(model, SiLU())


@pytest.mark.parametrize("mul", ["y = Mul(a, up)", "y = Mul(up, a)"])
def test_swiglu_of_a_packed_projection(mul: str) -> None:
    model = parse(
        "(float[B,S,8] x) => (float[B,S,4] y) {"
        f" gate, up = Split<axis = -1, num_outputs = 2>(x) s = Sigmoid(gate) a = Mul(gate, s) {mul} }}"
    )
    assert fused_same(model, SiLU(), SwiGLU()).matched == {"silu": 1, "swiglu": 1}
    assert ops(model) == ["Split", "SwiGLU"]
    assert [v.name for v in model.graph.node(1).inputs] == ["gate", "up"]


def test_channel_scaling_is_no_swiglu() -> None:
    model = parse(
        "(float[B,4,S,S] x, float[B,4,1,1] c) => (float[B,4,S,S] y)"
        " { s = Sigmoid(x) a = Mul(x, s) y = Mul(a, c) }"
    )
    done = fused_same(model, SiLU(), SwiGLU())
    assert done.matched == {"silu": 1} and not done.skipped


def test_shapes_that_may_differ_are_refused() -> None:
    model = parse(
        "(float[B,4] x, float[T,4] u) => (float[B,4] y) { s = Sigmoid(x) a = Mul(x, s) y = Mul(a, u) }"
    )
    done = fuse(model, SiLU(), SwiGLU())
    assert done.matched == {"silu": 1}
    assert "not known to be equal" in done.skipped[0].reason


def test_silu_with_two_readers_stays_a_silu() -> None:
    model = parse(
        "(float[B,4] x, float[B,4] u) => (float[B,4] y, float[B,4] z)"
        " { s = Sigmoid(x) a = Mul(x, s) y = Mul(a, u) z = Neg(a) }"
    )
    fuse(model, SiLU(), SwiGLU())
    assert ops(model) == ["SiLU", "Mul", "Neg"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Div"])
def test_only_a_product_with_a_silu_is_swiglu(op: str) -> None:
    lines = f"s = Sigmoid(x) a = Mul(x, s) y = {op}(a, u)"
    model = parse(f"(float[B,4] x, float[B,4] u) => (float[B,4] y) {{ {lines} }}")
    assert fused_same(model, Gelu(), SiLU(), SwiGLU()).matched == {"silu": 1}
    assert ops(model) == ["SiLU", op]
