"""Equal nodes are merged only when they are equal in everything, and in one graph."""

from __future__ import annotations

import pytest
from simplifying import formula, parse, simplify


def count(body: str, op: str, **given: object) -> int:
    outcome = simplify(parse(body, **given))  # type: ignore[arg-type]
    return sum(node.op_type == op for node in outcome.model.graph.all_nodes())


def test_equal_nodes() -> None:
    body = "(float[B,4] x) => (float[B,4] y) { a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Add(c, d) }"
    assert count(body, "Exp") == count(body, "Neg") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Softmax<axis=0>(x)", "Softmax<axis=1>(x)"),
        ("LeakyRelu<alpha=0.0>(x)", "LeakyRelu<alpha=-0.0>(x)"),
        ("Sub(x, z)", "Sub(z, x)"),
        ("RandomNormalLike(x)", "RandomNormalLike(x)"),
    ],
)
def test_unequal_nodes_stay(first: str, second: str) -> None:
    model = parse(
        f"(float[3,3] x, float[3,3] z) => (float[3,3] y) {{ a = {first} b = {second} y = Add(a, b) }}"
    )
    simplify(model, feeds=[])
    assert model.graph.num_nodes() == 3


@pytest.mark.parametrize(("inputs", "left"), [("x", 1), ("x, r", 1), ("x, r, t", 2)])
def test_dropouts_are_equal_unless_they_may_be_active(inputs: str, left: int) -> None:
    body = f"""(float[3] x, float r, bool t) => (bool[3] y) {{
        a, m = Dropout({inputs}) b, n = Dropout({inputs}) y = Xor(m, n) }}"""
    model = parse(body)
    simplify(model, feeds=[])
    assert sum(node.op_type == "Dropout" for node in model.graph) == left


def test_strings_in_attributes_are_not_compared() -> None:
    """Their tensors have no bytes to compare; nodes that hold them stay."""
    tensors = '<keys_tensor = string[1] {"a"}, values_tensor = int64[1] {1}>'
    body = f"""(string[2] x) => (int64[2] y) {{
        a = ai.onnx.ml.LabelEncoder {tensors} (x)
        b = ai.onnx.ml.LabelEncoder {tensors} (x)
        y = Add(a, b) }}"""
    model = parse(body, imports=', "ai.onnx.ml": 4')
    simplify(model, feeds=[])
    assert model.graph.num_nodes() == 3


def test_two_outputs_of_one_value() -> None:
    """Both outputs keep their names."""
    assert (
        formula("(float[B] x) => (float[B] y, float[B] z) { y = Exp(x) z = Exp(x) }")
        == "Exp(x); Identity(Exp(x))"
    )


def test_branches_are_scopes_of_their_own() -> None:
    """A value of one branch cannot be read in the other."""
    body = """(bool c, float[B] x) => (float[B] y) {
        y = If(c) <then_branch = t () => (float[B] p) { e = Exp(x) p = Neg(e) },
                   else_branch = f () => (float[B] q) { g = Exp(x) q = Abs(g) }> }"""
    assert count(body, "Exp") == 2


def test_a_node_used_only_inside_a_branch_is_alive() -> None:
    body = """(bool c, float[B] x) => (float[B] y) {
        e = Exp(x) g = Exp(x)
        y = If(c) <then_branch = t () => (float[B] p) { p = Neg(e) },
                   else_branch = f () => (float[B] q) { q = Abs(g) }> }"""
    assert count(body, "Exp") == 1


def test_optional_output_that_only_one_has() -> None:
    body = """(float[1,1,4,4] x) => (float[1,1,3,3] y, int64[1,1,3,3] i) {
        a = MaxPool<kernel_shape=[2,2]>(x) b, i = MaxPool<kernel_shape=[2,2]>(x) y = Add(a, b) }"""
    assert count(body, "MaxPool") == 2
