"""Products and convolutions compute the same in the runtime's kernels as their bodies do."""

from __future__ import annotations

import numpy as np
import pytest
from fused_calls import assert_lowers, call_model, legalized, ops

RNG = np.random.default_rng(0)


def packed(widths: tuple[int, ...], biased: tuple[bool, ...], x=("b", "s", 6), constant: bool = True):
    arrays = {f"w{i + 1}": RNG.standard_normal((6, n)).astype(np.float32) for i, n in enumerate(widths)}
    arrays |= {
        f"b{i + 1}": RNG.standard_normal(n).astype(np.float32) for i, n in enumerate(widths) if biased[i]
    }
    names = {"x": ("f", x)} | {name: ("f", a.shape) for name, a in arrays.items()}
    lines = []
    for i in range(1, len(widths) + 1):
        lines.append(f"m{i} = MatMul(x, w{i})")
        lines.append(f"y{i} = Add(m{i}, b{i})" if f"b{i}" in names else f"y{i} = Identity(m{i})")
    results = ", ".join(f"y{i + 1}" for i in range(len(widths)))
    body = f"({', '.join(names)}) => ({results}) {{ " + " ".join(lines) + " }"
    outputs = [("f", (*x[:-1], n)) for n in widths]
    return call_model("PackedLinear", names, body, {}, outputs, constants=arrays if constant else None)


@pytest.mark.parametrize("biased", [(True, True, True), (False, False, False), (True, False, True)])
@pytest.mark.parametrize("widths", [(8, 8, 8), (8, 4, 2)])
def test_projections_become_one_product(widths: tuple[int, ...], biased: tuple[bool, ...]) -> None:
    feeds = {"x": RNG.standard_normal((3, 5, 6)).astype(np.float32)}
    apart = ops(assert_lowers(packed(widths, biased), feeds))
    assert apart == [op for each in biased for op in (["MatMul", "Add"] if each else ["MatMul"])]
    lowered = assert_lowers(packed(widths, biased), feeds, packed_linear="PackedMatMul")
    assert ops(lowered) == (["MatMul", "Add", "Split"] if any(biased) else ["MatMul", "Split"])
    assert not any(name.startswith("w1") for name in lowered.graph.initializers)  # packed copies replace them


@pytest.mark.parametrize("biased", [(True, True), (False, True), (False, False)])
def test_turned_weights_become_one_gemm(biased: tuple[bool, ...]) -> None:
    arrays = {f"w{i}": RNG.standard_normal((n, 6)).astype(np.float32) for i, n in ((1, 8), (2, 4))}
    arrays |= {f"b{i}": np.ones(n, np.float32) * i for i, n in ((1, 8), (2, 4)) if biased[i - 1]}
    names = {"x": ("f", ("b", 6))} | {name: ("f", a.shape) for name, a in arrays.items()}
    operands = [f"x, w{i}, b{i}" if biased[i - 1] else f"x, w{i}" for i in (1, 2)]
    lines = " ".join(f"y{i} = Gemm<transB = 1>({operand})" for i, operand in enumerate(operands, 1))
    body = f"({', '.join(names)}) => (y1, y2) {{ {lines} }}"
    outputs = [("f", ("b", 8)), ("f", ("b", 4))]
    model = call_model("PackedLinear", names, body, {"transB": 1}, outputs, constants=arrays)
    feeds = {"x": RNG.standard_normal((3, 6)).astype(np.float32)}
    assert ops(assert_lowers(model, feeds)) == ["Gemm", "Gemm"]
    assert ops(assert_lowers(model, feeds, packed_linear="PackedMatMul")) == ["Gemm", "Split"]


def test_packed_weights_are_not_held_twice() -> None:
    lowered, _ = legalized(packed((8, 8), (False, False)), packed_linear="PackedMatMul")
    weight = next(iter(lowered.graph)).inputs[1].const_value
    assert weight.shape == (6, 16)
    assert not getattr(weight, "cache", True)


def test_changing_weights_are_inlined() -> None:
    model = packed((8, 8), (False, False), constant=False)
    lowered, report = legalized(model, packed_linear="PackedMatMul")
    assert "'w1' is not a constant" in report.skipped[0].reason
    assert ops(lowered).count("MatMul") == 2


@pytest.mark.parametrize(
    "activation,extra", [(None, {}), ("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2})]
)
@pytest.mark.parametrize("c", [(7,), (4, 7), (), None], ids=str)
def test_fused_gemm(c, activation: str | None, extra: dict[str, float]) -> None:
    attributes = {"alpha": 0.5, "beta": 2.0, "transA": 0, "transB": 1}
    names = {"a": ("f", (4, 6)), "b": ("f", (7, 6))} | ({} if c is None else {"c": ("f", c)})
    tail = {None: "y = Identity(g)", "Relu": "y = Relu(g)", "LeakyRelu": "y = LeakyRelu<alpha=0.2>(g)"}[
        activation
    ]
    args = ", ".join(names)
    body = f"({args}) => (y) {{ g = Gemm<alpha=0.5, beta=2.0, transB=1>({args}) {tail} }}"
    call = attributes | ({"activation": activation} if activation else {}) | extra
    model = call_model("FusedGemm", names, body, call, [("f", (4, 7))])
    feeds = {n: np.asarray(RNG.standard_normal(s[1]), np.float32) for n, s in names.items()}
    assert ops(assert_lowers(model, feeds)) == [("FusedGemm" if activation else "Gemm")]


@pytest.mark.parametrize("activation", [None, "Relu", "Clip", "LeakyRelu", "HardSigmoid", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_fused_conv(bias: bool, residual: bool, activation: str | None) -> None:
    names = {"x": ("f", ("b", 4, 9, 7)), "w": ("f", (6, 2, 3, 3))}
    names |= {"b": ("f", (6,))} if bias else {}
    names |= {"residual": ("f", ("b", 6, 5, 4))} if residual else {}
    conv = "c = Conv<group=2, pads=[1,1,1,1], strides=[2,2]>(x, w{}) ".format(", b" if bias else "")
    tails = {
        None: "y = Identity(r)",
        "Relu": "y = Relu(r)",
        "Sigmoid": "y = Sigmoid(r)",
        "Tanh": "y = Tanh(r)",
        "Clip": "lo = Constant<value_float=-0.5>() hi = Constant<value_float=0.5>() y = Clip(r, lo, hi)",
        "LeakyRelu": "y = LeakyRelu<alpha=0.2>(r)",
        "HardSigmoid": "y = HardSigmoid<alpha=0.25, beta=0.4>(r)",
    }
    add = "r = Add(c, residual) " if residual else "r = Identity(c) "
    params = {"Clip": [-0.5, 0.5], "LeakyRelu": [0.2], "HardSigmoid": [0.25, 0.4]}.get(str(activation))
    attributes = {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    attributes |= {"activation": activation} if activation else {}
    attributes |= {"activation_params": params} if params else {}
    body = f"({', '.join(names)}) => (y) {{ {conv}{add}{tails[activation]} }}"
    model = call_model("FusedConv", names, body, attributes, [("f", ("b", 6, 5, 4))])
    sizes = {"b": 3}
    feeds = {
        n: RNG.standard_normal([sizes.get(d, d) for d in s[1]]).astype(np.float32) for n, s in names.items()
    }
    if not residual:
        assert ops(assert_lowers(model, feeds)) == ["FusedConv"]
        return
    lowered, report = legalized(model)
    assert "fuses the residual itself" in report.skipped[0].reason
    assert {"Conv", "Add"} <= set(ops(lowered))


def test_activation_without_kernel_is_inlined() -> None:
    body = "(a, b) => (y) { g = Gemm(a, b) y = Mish(g) }"
    names = {"a": ("f", (4, 6)), "b": ("f", (6, 7))}
    lowered, report = legalized(call_model("FusedGemm", names, body, {"activation": "Mish"}, [("f", (4, 7))]))
    assert ops(lowered) == ["Gemm", "Mish"]
    assert "Mish" in report.skipped[0].reason
