"""Projections of one input are packed with the biases that belong to them, and nothing else is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fusing import fuse, fused_same, ops, parse

from optc.passes.fuse.packed_linear import PackedLinear

_GENERATOR = np.random.default_rng(0)
WEIGHTS = {f"w{i}": _GENERATOR.standard_normal((4, n)).astype("f4") for i, n in enumerate((4, 2, 2, 4, 4, 4))}
BIASES = {f"b{i}": _GENERATOR.standard_normal(n).astype("f4") for i, n in enumerate((4, 2, 2))}
TURNED = {name.upper(): np.ascontiguousarray(array.T) for name, array in WEIGHTS.items()}


def _model(lines: str, outputs: int, *, x: str = "B,S,4", out: str = "float[B,S,N]", **given) -> ir.Model:
    constants = {
        name: array for name, array in {**WEIGHTS, **TURNED, **BIASES, **given}.items() if name in lines
    }
    results = ", ".join(f"{out.replace('N', f'N{i}')} y{i}" for i in range(outputs))
    return parse(f"(float[{x}] x) => ({results}) {{ {lines} }}", constants=constants)


def _inputs(model: ir.Model) -> list[str | None]:
    return [value.name for value in next(node for node in model.graph if node.domain == "optc").inputs]


def test_three_products_with_biases() -> None:
    model = _model(
        "a = MatMul(x, w0) y0 = Add(a, b0) b = MatMul(x, w1) y1 = Add(b1, b) "
        "c = MatMul(x, w2) y2 = Add(c, b2)",
        3,
    )
    assert fused_same(model, PackedLinear()).matched == {"packed_linear": 1}
    assert ops(model) == ["PackedLinear"]
    assert _inputs(model) == ["x", "w0", "w1", "w2", "b0", "b1", "b2"]
    assert [value.name for value in model.graph.outputs] == ["y0", "y1", "y2"]


def test_bias_of_one_of_two() -> None:
    model = _model("y0 = MatMul(x, w0) b = MatMul(x, w1) y1 = Add(b, b1)", 2)
    fused_same(model, PackedLinear())
    assert _inputs(model) == ["x", "w0", "w1", "b1"]
    function = next(iter(model.functions.values()))
    assert [value.name for value in function.inputs] == ["x", "w1", "w2", "b2"]


@pytest.mark.parametrize("bias", [np.ones((5, 4), np.float32), np.ones(1, np.float32)])
def test_add_that_is_no_bias_stays_outside(bias: np.ndarray) -> None:
    model = _model("a = MatMul(x, w0) y0 = Add(a, other) y1 = MatMul(x, w1)", 2, other=bias)
    fused_same(model, PackedLinear())
    assert ops(model) == ["PackedLinear", "Add"]


def test_product_that_is_read_before_its_bias_gives_the_product() -> None:
    model = _model("a = MatMul(x, w0) y0 = Add(a, b0) y1 = MatMul(x, w1) y2 = Neg(a)", 3)
    fused_same(model, PackedLinear())
    assert sorted(ops(model)) == ["Add", "Neg", "PackedLinear"]


@pytest.mark.parametrize("turned", [False, True])
def test_gemm(turned: bool) -> None:
    lines = "y0 = Gemm(x, w0, b0) y1 = Gemm(x, w1) y2 = Gemm(x, w2, b2)"
    if turned:
        lines = lines.replace("Gemm", "Gemm<transB = 1>").replace("w", "W")
    model = _model(lines, 3, x="B,4", out="float[B,N]")
    fused_same(model, PackedLinear())
    assert ops(model) == ["PackedLinear"]
    assert ("transB" in next(iter(model.graph)).attributes) == turned


@pytest.mark.parametrize(
    "lines",
    [
        "y0 = MatMul(x, w0) y1 = Neg(x)",
        "y0 = MatMul(x, w0) t = Transpose<perm = [0, 2, 1]>(x) y1 = MatMul(x, t)",
        "y0 = MatMul(x, w0) n = Neg(x) y1 = MatMul(n, w1)",
        "y0 = MatMul(x, w0) y1 = MatMul(x, stack)",
    ],
)
def test_other_products_are_something_else(lines: str) -> None:
    model = _model(lines, 2, stack=np.ones((2, 4, 4), np.float32), x="2,S,4")
    done = fuse(model, PackedLinear())
    assert not done.matched and not done.skipped


@pytest.mark.parametrize("attribute", ["alpha = 2.0", "beta = 2.0", "transA = 1"])
def test_scaled_gemm_is_something_else(attribute: str) -> None:
    lines = f"y0 = Gemm(x, w0, b0) y1 = Gemm<{attribute}>(x, w1, b1)"
    assert not fuse(_model(lines, 2, x="4,4", out="float[4,N]"), PackedLinear()).matched


def test_many_projections_go_by_equal_width_in_threes_and_twos() -> None:
    model = _model(" ".join(f"y{i} = MatMul(x, w{i})" for i in range(6)), 6)
    assert fused_same(model, PackedLinear()).matched == {"packed_linear": 3}
    calls = [node for node in model.graph if node.domain == "optc"]
    assert [[v.name for v in call.inputs[1:]] for call in calls] == [["w0", "w3"], ["w1", "w2"], ["w4", "w5"]]


def test_projections_in_different_branches_stay_apart() -> None:
    model = parse(
        "(float[B,4] x, bool c) => (float[B,4] y) { a = MatMul(x, w0) "
        "y = If(c) <then_branch = left () => (float[B,4] n) { n = MatMul(x, w3) },"
        " else_branch = right () => (float[B,4] m) { m = Identity(a) }> }",
        constants={name: WEIGHTS[name] for name in ("w0", "w3")},
    )
    assert not fuse(model, PackedLinear()).matched


def test_weight_that_a_caller_may_override_is_no_constant() -> None:
    model = _model("y0 = MatMul(x, w0) y1 = MatMul(x, w1)", 2)
    model.graph.inputs.append(model.graph.initializers["w1"])
    assert not fuse(model, PackedLinear()).matched


def test_fusing_again_changes_nothing() -> None:
    model = _model("y0 = MatMul(x, w0) y1 = MatMul(x, w1)", 2)
    fuse(model, PackedLinear())
    assert not fuse(model, PackedLinear()).matched
