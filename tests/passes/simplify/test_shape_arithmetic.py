"""Arithmetic on shapes ends in constants exactly where the numbers are certain."""

from __future__ import annotations

import numpy as np
from simplifying import formula, parse, simplify


def test_static_dim_is_a_number() -> None:
    body = """(float[B,3,4] x, int64[1] z) => (int64[1] y) {
        s = Shape(x) d = Gather(s, one) e = Unsqueeze(d, zero) f = Mul(e, two) y = Add(z, f) }"""
    constants = {"one": np.int64(1), "zero": [0], "two": [2]}
    assert formula(body, constants=constants) == "Add(z, [6])"


def test_symbolic_dim_is_no_number() -> None:
    assert "Shape" in formula("(float[B,3] x) => (int64[2] y) { y = Shape(x) }")


def test_a_known_output_keeps_its_name_and_node() -> None:
    outcome = simplify(parse("(float[2,3] x) => (int64[2] y) { y = Shape(x) }"))
    assert outcome.formula == "Identity([2, 3])"
    assert [value.name for value in outcome.model.graph.outputs] == ["y"]


def test_slice_may_end_before_its_bound() -> None:
    """x[:, :10] of a symbolic axis has at most ten columns, not ten."""
    body = "(float[B,S] x) => (int64[2] y) { c = Slice(x, zero, ten, one) y = Shape(c) }"
    formula_ = formula(body, constants={"zero": [0], "ten": [10], "one": [1]})
    assert "Shape" in formula_


def test_two_symbols_may_broadcast_either_way() -> None:
    """The sum of [B] and [S] has B elements only when B is not 1."""
    body = (
        "(float[B] x, float[S] z) => (float[N] y) { a = Add(x, z) s = Shape(x) e = Expand(a, s) y = Relu(e) }"
    )
    sizes = ({"B": 4, "S": 1}, {"B": 4, "S": 4}, {"B": 1, "S": 4})
    assert formula(body, sizes=sizes) == "Relu(Expand(Add(x, z), Shape{start=0}(x)))".replace("{start=0}", "")


def test_expand_to_its_own_shape() -> None:
    body = "(float[B,S] x) => (float[B,S] y) { s = Shape(x) e = Expand(x, s) y = Relu(e) }"
    assert formula(body) == "Relu(x)"


def test_tile_once() -> None:
    body = "(float[B,S] x) => (float[B,S] y) { e = Tile(x, n) y = Relu(e) }"
    assert formula(body, constants={"n": [1, 1]}) == "Relu(x)"
    assert "Tile" in formula(body.replace("[B,S] y", "[B,N] y"), constants={"n": [1, 2]})


def test_default_of_an_input_is_no_constant() -> None:
    """An initializer that is a graph input can be overridden by the caller."""
    body = "(float[B,4] x, int64[2] s = {4, -1}) => (float[N,M] y) { y = Reshape(x, s) }"
    model = parse(body)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    outcome = simplify(model, feeds=[{"x": x}, {"x": x, "s": np.array([8, 1])}])
    assert outcome.formula == "Reshape(x, s)"


def test_stale_numbers_of_the_file_are_not_believed() -> None:
    """The inputs of a file are often made dynamic while its value_info keeps the old batch."""
    model = parse("(float[B,3] x) => (int64[2] y) { a = Relu(x) y = Shape(a) }")
    next(iter(model.graph)).outputs[0].shape = type(model.graph.inputs[0].shape)([1, 3])
    assert simplify(model).formula == "Shape(Relu(x))"


CHOSEN = """(float[1,S] x, float[B,S] z) => (float[B,S] y) {
    s = Shape(z) c = Concat<axis=0>(FIRST) t = Equal(c, minus) w = Where(t, ones, c)
    e = Expand(x, w) y = Div(e, z) }"""
PICKED = {"minus": [-1, -1], "ones": [1, 1], "m": [-1]}


def test_minus_one_is_never_a_dim() -> None:
    """What exporters write before every Expand: -1 keeps a dim, and no size is negative."""
    parts = CHOSEN.replace("FIRST", "b, q").replace(
        "s = Shape(z)", "b = Shape<start=0,end=1>(z) q = Shape<start=1,end=2>(z)"
    )
    assert formula(parts, constants=PICKED) == "Div(x, z)"


def test_minus_one_keeps_the_dim() -> None:
    body = CHOSEN.replace("FIRST", "b, m").replace("s = Shape(z)", "b = Shape<start=0,end=1>(z)")
    assert formula(body, constants=PICKED) == "Div(x, z)"


def test_a_difference_of_dims_may_be_minus_one() -> None:
    body = CHOSEN.replace("FIRST", "b, d").replace(
        "s = Shape(z)", "b = Shape<start=0,end=1>(z) q = Shape<start=1,end=2>(z) d = Sub(q, b)"
    )
    sizes = ({"B": 2, "S": 4}, {"B": 2, "S": 1})  # d is 2, then -1
    body = (
        body.replace("float[1,S] x", "float[1,1] x")
        .replace("y = Div(e, z)", "y = Neg(e)")
        .replace("float[B,S] y", "float[N,M] y")
    )
    assert "Where" in formula(body, constants=PICKED, sizes=sizes)


def test_a_table_that_is_cut_to_the_sequence_has_its_length() -> None:
    """Position embeddings: table[:S] is Min(8, S) long, and added to [B, S] it must be S."""
    body = """(float[B,S] x) => (float[B,S] y) {
        q = Shape<start=1,end=2>(x) p = Slice(table, zero, q) a = Add(x, p)
        t = Shape(x) e = Expand(a, t) y = Relu(e) }"""
    constants = {"table": np.arange(8, dtype=np.float32), "zero": [0]}
    assert "Expand" not in formula(body, constants=constants)


def test_a_table_of_one_row_may_be_repeated() -> None:
    body = """(float[B,S] x) => (int64[1] y) {
        q = Shape<start=0,end=1>(x) p = Slice(table, zero, q) a = Add(p, row) y = Shape(a) }"""
    constants = {"table": np.float32([1]), "zero": [0], "row": np.float32([1, 2, 3])}
    assert formula(body, constants=constants, sizes=({"B": 1, "S": 1}, {"B": 3, "S": 1})) in (
        "[3]",
        "Identity([3])",
    )
