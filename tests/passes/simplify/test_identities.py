"""Neutral operands go only when no bit changes: signs of zero, NaN, shapes and types included."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import formula, parse, simplify

F = np.float32


@pytest.mark.parametrize(
    ("op", "number", "gone"),
    [
        ("Mul", F(1), True),
        ("Div", F(1), True),
        ("Pow", F(1), True),
        ("Sub", F(0), True),
        ("Add", F(-0.0), True),
        ("Add", F(0), False),  # -0.0 + 0.0 is 0.0
        ("Sub", F(-0.0), False),
        ("Mul", F(0), False),  # NaN * 0 is NaN
        ("Mul", F(2), False),
        ("Div", F(-1), False),
    ],
)
def test_float_scalars(op: str, number: np.float32, gone: bool) -> None:
    result = formula(
        f"(float[B,4] x) => (float[B,4] y) {{ a = {op}(x, c) y = Relu(a) }}", constants={"c": number}
    )
    assert (result == "Relu(x)") == gone


@pytest.mark.parametrize(
    ("readers", "gone"),
    [
        ("y = Softmax<axis=-1>(a)", True),  # the mask of an encoder that masks nothing
        ("y = Exp(a)", True),
        ("e = Exp(a) s = Softmax<axis=-1>(a) y = Mul(e, s)", True),
        ("e = Exp(a) s = Reciprocal(a) y = Mul(e, s)", False),  # 1 / -0.0 is not 1 / 0.0
        ("y = LogSoftmax<axis=-1>(a)", False),  # of a single element: -0.0 - 0.0 is -0.0
    ],
)
def test_zeros_go_where_the_sign_of_zero_is_lost(readers: str, gone: bool) -> None:
    body = f"(float[B,4] x) => (float[B,4] y) {{ a = Add(x, c) {readers} }}"
    result = formula(body, constants={"c": np.zeros((1, 4), F)})
    assert ("Add" not in result) == gone


def test_zeros_that_make_an_output_stay() -> None:
    model = parse(
        "(float[B,4] x) => (float[B,4] a, float[B,4] y) { a = Add(x, c) y = Exp(a) }", constants={"c": F(0)}
    )
    assert simplify(model).report.changed is False


@pytest.mark.parametrize(("op", "number"), [("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1)])
def test_integers(op: str, number: int) -> None:
    body = f"(int64[B,4] x) => (int64[B,4] y) {{ a = {op}(x, c) y = Neg(a) }}"
    assert formula(body, constants={"c": np.int64(number)}) == "Neg(x)"


@pytest.mark.parametrize(("op", "gone"), [("Add", True), ("Mul", True), ("Sub", False), ("Div", False)])
def test_neutral_on_the_left(op: str, gone: bool) -> None:
    number = np.int64(op in ("Mul", "Div"))
    body = f"(int64[B,4] x) => (int64[B,4] y) {{ o = Add(x, one) a = {op}(c, o) y = Neg(a) }}"
    result = formula(body, constants={"c": number, "one": np.int64(1)})
    assert (result == "Neg(Add(x, 1))") == gone


@pytest.mark.parametrize(
    ("ones", "gone"),
    [
        (np.ones(4, F), True),
        (np.ones((1, 1), F), True),
        (np.ones((1, 1, 4), F), False),
        (np.ones((3, 4), F), False),
    ],
)
def test_shape_of_the_neutral_operand(ones: np.ndarray, gone: bool) -> None:
    out = "float[1,B,4]" if ones.ndim == 3 else "float[B,4]"
    body = f"(float[B,4] x) => ({out} y) {{ a = Mul(x, c) y = Relu(a) }}"
    assert (formula(body, constants={"c": ones}, sizes=({"B": 3}, {"B": 1})) == "Relu(x)") == gone


def test_nearly_all_ones_stay() -> None:
    body = "(float[B,4] x) => (float[B,4] y) { y = Mul(x, c) }"
    assert formula(body, constants={"c": np.array([1, 1, 2, 1], F)}).startswith("Mul")


@pytest.mark.parametrize(
    ("op", "flag", "gone"),
    [("And", True, True), ("And", False, False), ("Or", False, True), ("Or", True, False)],
)
def test_logical(op: str, flag: bool, gone: bool) -> None:
    body = f"(bool[B,4] x) => (bool[B,4] y) {{ a = {op}(c, x) y = Not(a) }}"
    assert (formula(body, constants={"c": np.bool_(flag)}) == "Not(x)") == gone


def test_dropout_at_inference() -> None:
    assert formula("(float[B] x) => (float[B] y) { d = Dropout(x) y = Relu(d) }") == "Relu(x)"


def test_dropout_in_training_stays() -> None:
    constants = {"r": np.float32(0), "t": np.bool_(True)}
    outcome = simplify(
        parse("(float[B] x) => (float[B] y) { d = Dropout(x, r, t) y = Relu(d) }", constants=constants)
    )
    assert outcome.formula.startswith("Relu(Dropout")
    assert outcome.reasons == ["dropout kept: it may be in training mode"]


def test_dropout_whose_mask_is_read_stays() -> None:
    assert "Dropout" in formula("(float[B] x) => (float[B] y, bool[B] m) { d, m = Dropout(x) y = Relu(d) }")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Neg(x) b = Neg(a) y = Abs(b)", "Abs(x)"),
        ("a = Relu(x) y = Relu(a)", "Relu(x)"),
        ("a = Max(x) y = Relu(a)", "Relu(x)"),
        ("a = Exp(x) y = Exp(a)", "Exp(Exp(x))"),
    ],
)
def test_applied_twice_or_to_one(body: str, expected: str) -> None:
    assert formula(f"(float[B,3] x) => (float[B,3] y) {{ {body} }}") == expected


def test_where_with_one_answer() -> None:
    body = "(float[B,3] x, float[B,3] z) => (float[B,3] y) { w = Where(c, x, z) y = Relu(w) }"
    assert formula(body, constants={"c": np.zeros((1, 3), bool)}) == "Relu(z)"
    assert formula(body, constants={"c": np.array([[True, False, True]])}).startswith("Relu(Where")


def test_where_that_broadcasts_stays() -> None:
    body = "(float[3] x, float[B,3] z) => (float[B,3] y) { w = Where(c, x, z) y = Relu(w) }"
    assert formula(body, constants={"c": np.bool_(True)}).startswith("Relu(Where")


@pytest.mark.parametrize(("fill", "to", "gone"), [(1, 9, True), (0, 9, False), (3, 9, True)])
def test_filled_tensor_of_a_computed_shape(fill: int, to: int, gone: bool) -> None:
    """TorchScript writes masks of ones as ConstantOfShape of a shape, then a cast."""
    body = f"""(bool[B,S] x) => (bool[B,S] y) {{
        s = Shape(x) f = ConstantOfShape<value = int64[1] {{{fill}}}>(s) c = Cast<to={to}>(f)
        a = And(x, c) y = Not(a) }}"""
    assert (formula(body) == "Not(x)") == gone


def test_cast_of_a_filled_tensor_to_numbers_is_not_taken_for_true() -> None:
    body = """(float[B,S] x) => (float[B,S] y) {
        s = Shape(x) f = ConstantOfShape<value = int64[1] {1}>(s) c = Cast<to=1>(f)
        a = Mul(x, c) y = Relu(a) }"""
    assert "Mul" in formula(body)


def test_not_of_a_filled_tensor() -> None:
    body = """(bool[B,S] x) => (bool[B,S] y) {
        s = Shape(x) f = ConstantOfShape<value = bool[1] {0}>(s) n = Not(f)
        o = Or(n, f) a = And(x, o) y = Not(a) }"""
    assert formula(body) == "Not(x)"


def test_comparison_with_nothing() -> None:
    body = "(bool[0] x, int64[0] i) => (bool[0] y) { c = GreaterOrEqual(i, e) y = And(x, c) }"
    feeds = [{"x": np.zeros(0, bool), "i": np.zeros(0, np.int64)}]
    assert "And" in formula(body, constants={"e": np.zeros(0, np.int64)}, feeds=feeds)
