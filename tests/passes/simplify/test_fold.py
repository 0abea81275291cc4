"""Folding evaluates constants, and knows what not to evaluate: random, quantized, huge, shared."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from simplifying import formula, parse, simplify

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_chain_of_constants() -> None:
    body = "(float[B,3] x) => (float[B,4] y) { t = Transpose<perm=[1,0]>(w) n = Neg(t) y = MatMul(x, n) }"
    outcome = simplify(parse(body, constants={"w": W.T.copy()}))
    (weight,) = outcome.model.graph.initializers.values()
    np.testing.assert_array_equal(weight.const_value.numpy(), -W)
    assert outcome.report.matched["constant folded"] == 2


def test_constant_output_keeps_its_name() -> None:
    outcome = simplify(
        parse("(float[B] x) => (float[2] y) { y = Neg(c) }", constants={"c": np.float32([1, 2])})
    )
    assert outcome.formula == "Identity([-1.0, -2.0])"


@pytest.mark.parametrize("op", ["RandomNormalLike", "Bernoulli"])
def test_random_stays(op: str) -> None:
    model = parse(f"(float[3,4] x) => (float[3,4] y) {{ r = {op}(w) y = Mul(x, r) }}", constants={"w": W})
    assert op in simplify(model, feeds=[]).formula


def test_quantized_weights_stay_quantized() -> None:
    body = "(float[B,3] x) => (float[B,4] y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }"
    constants = {"q": W.astype(np.int8), "s": np.float32(0.5)}
    assert "DequantizeLinear" in formula(body, constants=constants)


def test_size_limit() -> None:
    body = "(float[B,64] x) => (float[B,64] y) { e = Expand(c, s) y = MatMul(x, e) }"
    constants = {"c": np.float32([[2]]), "s": [64, 64]}
    assert "Expand" not in formula(body, constants=constants, sizes=({"B": 2},))
    outcome = simplify(parse(body, constants=constants), fold_limit=1000)
    assert "Expand" in outcome.formula
    assert outcome.reasons == ["constant not folded: its 16384 bytes would make the model larger"]


def test_a_weight_that_only_changes_its_layout_has_no_limit() -> None:
    body = "(float[B,3] x) => (float[B,4] y) { t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) }"
    assert "Transpose" not in formula_of(body, fold_limit=1)


def formula_of(body: str, **options: int) -> str:
    return simplify(parse(body, constants={"w": W.T.copy()}), **options).formula


def test_a_large_weight_with_another_reader_is_not_copied() -> None:
    body = """(float[B,3] x, float[B,4] z) => (float[B,4] y, float[B,3] v) {
        t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) v = MatMul(z, w) }"""
    assert "Transpose" in formula_of(body, fold_limit=1)
    assert "Transpose" not in formula_of(body)


def test_absurd_size_is_never_evaluated() -> None:
    """2**62 bytes: folding them would exhaust any machine, and their shape is known without them."""
    constants = {"n": [2**30, 2**30]}
    body = "(int64[B] x) => (int64[B] y) { f = ConstantOfShape(n) s = Shape<start=0,end=1>(f) y = Add(x, s) }"
    assert formula(body, constants=constants, feeds=[]) == "Add(x, [1073741824])"
    body = "(float[1] x) => (float[N,M] y) { f = ConstantOfShape(n) y = Add(x, f) }"
    assert "ConstantOfShape" in formula(body, constants=constants, feeds=[])


def test_many_small_growths_are_bounded() -> None:
    nodes = "".join(f"e{i} = Tile(c{i}, s) " for i in range(80))
    sums = "a0 = Add(x, e0) " + "".join(f"a{i} = Add(a{i - 1}, e{i}) " for i in range(1, 80))
    constants = {f"c{i}": np.float32([i + 2.5]) for i in range(80)} | {"s": [256]}
    model = parse(f"(float[256] x) => (float[256] a79) {{ {nodes} {sums} }}", constants=constants)
    outcome = simplify(model, fold_limit=1024)
    left = sum(node.op_type == "Tile" for node in outcome.model.graph)
    assert 0 < left < 80


def test_what_the_runtime_cannot_evaluate_stays() -> None:
    """An index beyond the axis is an error at run time, of that node alone."""
    body = "(float[B,4] x) => (float[B,4] y) { g = Gather(w, i) n = Neg(v) a = Add(x, n) y = Add(a, g) }"
    model = parse(body, constants={"w": W, "i": np.int64(7), "v": W[0]})
    outcome = simplify(model, feeds=[])
    assert "Gather" in outcome.formula and "Neg" not in outcome.formula


def test_string_and_sequence_constants_stay() -> None:
    body = """(float[B] x) => (float[B] y, int64 n) {
        s = SequenceConstruct(w, w) n = SequenceLength(s) y = Relu(x) }"""
    assert "SequenceLength" in formula(body, constants={"w": W})


def test_weights_are_kept_by_reference() -> None:
    model = parse("(float[B,3] x) => (float[B,4] y) { i = Identity(w) y = MatMul(x, i) }", constants={"w": W})
    tensor: ir.TensorProtocol = model.graph.initializers["w"].const_value
    assert simplify(model).model.graph.initializers["w"].const_value is tensor
