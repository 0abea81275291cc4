"""The bias of a projection joins its GELU only when it is one constant number per channel."""

from __future__ import annotations

import numpy as np
import pytest
from fusing import fuse, fused_same, ops, parse, refusal

from optc.passes.fuse.bias_gelu import BiasGelu
from optc.passes.fuse.gelu import Gelu

BIAS = np.linspace(-1, 1, 4, dtype=np.float32)


def _model(add: str = "a = Add(x, bias)", bias: np.ndarray = BIAS, extra: str = "", opset: int = 20):
    return parse(
        f"(float[B,S,4] x) => (float[B,S,4] y) {{ {add} {extra} y = Gelu (a) }}",
        constants={"bias": bias},
        opset=opset,
    )


@pytest.mark.parametrize("add", ["a = Add(x, bias)", "a = Add(bias, x)"])
def test_bias_in_either_order(add: str) -> None:
    model = _model(add)
    assert fused_same(model, Gelu(), BiasGelu()).matched == {"gelu": 1, "bias_gelu": 1}
    assert ops(model) == ["BiasGelu"]
    assert [v.name for v in model.graph.node(0).inputs] == ["x", "bias"]


def test_below_the_opset_of_gelu() -> None:
    body = "a = Add(x, bias) d = Div(a, r) e = Erf(d) g = Add(e, one) m = Mul(a, g) y = Mul(m, half)"
    model = parse(
        f"(float[B,4] x) => (float[B,4] y) {{ {body} }}",
        constants={"bias": BIAS, "r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
        opset=13,
    )
    fused_same(model, Gelu(), BiasGelu())
    assert ops(model) == ["BiasGelu"]


def test_bias_that_is_not_per_channel_is_refused() -> None:
    done = fuse(_model(bias=np.zeros((5, 4), np.float32), extra=""), Gelu(), BiasGelu())
    assert done.matched == {"gelu": 1}
    assert "not one number per channel" in done.skipped[0].reason


def test_sum_that_is_read_elsewhere_is_refused() -> None:
    model = parse(
        "(float[B,4] x) => (float[B,4] y, float[B,4] z) { a = Add(x, bias) y = Gelu(a) z = Neg(a) }",
        constants={"bias": BIAS},
    )
    fuse(model, Gelu())
    assert "'a' has another reader" in refusal(model, BiasGelu())


def test_sum_of_two_tensors_is_something_else() -> None:
    model = parse("(float[B,4] x, float[B,4] b) => (float[B,4] y) { a = Add(x, b) y = Gelu(a) }")
    done = fuse(model, Gelu(), BiasGelu())
    assert done.matched == {"gelu": 1} and not done.skipped
