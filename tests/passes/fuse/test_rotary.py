"""Rotary embeddings are recognised in halves and in neighbours, of all columns or the first of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from attention_text import assert_same, call, facts, model, ops, random_feeds, reasons

from optc import rewrite
from optc.analysis import shapes
from optc.passes.fuse.rotary import RotaryEmbedding

SIZES = {"b": 3, "s": 5}
CONSTANTS = (
    "int64[1] zero = {0}, int64[1] three = {3}, int64[1] six = {6}, int64[1] last = {-1}, int64[1] one = {1}"
)
CONSTANTS += ", int64[1] two = {2}, int64[1] eight = {8}, int64[5] sizes = {0, 0, 0, 3, 2}"
CONSTANTS += ", int64[4] flat = {0, 0, 0, 6}, float half = {0.5}"
TABLES = """
    both = Concat <axis = -1> (angles, angles)
    c = Cos (both) c_scaled = Mul (c, half) cos = Unsqueeze (c_scaled, one)
    s = Sin (both) sin = Unsqueeze (s, one)
"""
PAIRED_TABLES = """
    wide = Unsqueeze (angles, last) paired = Concat <axis = -1> (wide, wide)
    joint = Reshape (paired, joint_size)
    c = Cos (joint) cos = Unsqueeze (c, one) s = Sin (joint) sin = Unsqueeze (s, one)
"""
TURN = """
    low = Slice (x, zero, three, last) high = Slice (x, three, six, last) minus = Neg (high)
    turned = Concat <axis = -1> (minus, low)
"""
PAIRED_TURN = """
    even = Slice (x, zero, six, last, two) odd = Slice (x, one, six, last, two) minus = Neg (odd)
    first = Unsqueeze (minus, last) second = Unsqueeze (even, last)
    stacked = Concat <axis = -1> (first, second) turned = Reshape (stacked, flat)
"""
SUM = "by_cos = Mul (x, cos) by_sin = Mul (turned, sin) y = Add (by_cos, by_sin)"
INPUTS = "float[b, 4, s, 6] x, float[b, s, 3] angles"


def rotary(text: str, inputs: str = INPUTS, size: int = 6, constants: str = "") -> ir.Model:
    constants = ", ".join([CONSTANTS, "int64[3] joint_size = {0, 0, 6}", *([constants] if constants else [])])
    return model(text, inputs=inputs, outputs=f"float[b, 4, s, {size}] y", constants=constants)


def fuse(graph: ir.Model) -> rewrite.Fusions:
    shapes.infer(graph)
    return rewrite.apply([RotaryEmbedding()], graph)


VARIANTS = {
    "halves": TABLES + TURN + SUM,
    "other order": TABLES + TURN + "s2 = Mul (sin, turned) c2 = Mul (cos, x) y = Add (s2, c2)",
    "split": TABLES
    + "low, high = Split <axis = -1, num_outputs = 2> (x) minus = Neg (high)"
    + "turned = Concat <axis = -1> (minus, low)"
    + SUM,
    "neighbours": PAIRED_TABLES + PAIRED_TURN + SUM,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_rotation_is_one_call(name: str) -> None:
    """The call takes one column of cosines and sines per pair."""
    before, after = (rotary(VARIANTS[name]) for _ in range(2))
    assert fuse(after).matched == {"rotary": 1}
    assert facts(call(after)) == {"interleaved": name == "neighbours", "rotary_dim": 6}
    assert [str(value.shape) for value in call(after).inputs] == ["[b,4,s,6]", "[b,s,3]", "[b,s,3]"]
    assert_same(before, after, [random_feeds(before, SIZES), random_feeds(before, {"b": 1, "s": 1})])


@pytest.mark.parametrize("interleaved", [False, True])
def test_columns_that_do_not_turn_pass_through(interleaved: bool) -> None:
    """Partial rotation: the first columns of a head turn, the others are put back."""
    tables, turn = (PAIRED_TABLES, PAIRED_TURN) if interleaved else (TABLES, TURN)
    text = "x = Slice (whole, zero, six, last) rest = Slice (whole, six, eight, last)" + tables + turn
    text += SUM.replace("y =", "part =") + "y = Concat <axis = -1> (part, rest)"
    inputs = INPUTS.replace("6] x", "8] whole")
    before, after = (rotary(text, inputs, size=8) for _ in range(2))
    fuse(after)
    assert call(after).inputs[0] is after.graph.inputs[0]
    assert "Concat" not in ops(after)[ops(after).index("RotaryEmbedding") :]
    assert_same(before, after, [random_feeds(before, SIZES)])


def test_constant_tables_are_looked_at() -> None:
    """With fixed positions the tables are constants, and their columns are compared."""
    angles = np.outer(np.arange(5), [1.0, 0.1, 0.01]).astype(np.float32)
    tables = {"cos": np.cos(np.tile(angles, 2)), "sin": np.sin(np.tile(angles, 2))}
    for spoiled in (False, True):
        graph = rotary(TURN + SUM, "float[b, 4, 5, 6] x, float[5, 6] cos, float[5, 6] sin")
        for value in list(graph.graph.inputs)[1:]:
            array = tables[value.name].copy()
            array[2, 4] += spoiled
            graph.graph.inputs.remove(value)
            value.const_value = ir.tensor(array, name=value.name)
            graph.graph.register_initializer(value)
        assert fuse(graph).matched["rotary"] == (not spoiled)


REFUSED = {
    "the two columns of a pair are not known to turn by the same angle": (
        TABLES.replace("(angles, angles)", "(angles, others)") + TURN + SUM,
        INPUTS + ", float[b, s, 3] others",
    ),
    "the cosines and sines differ by head, or heads are not the second axis": (
        TURN + SUM,
        "float[b, 4, s, 6] x, float[b, 4, s, 6] cos, float[b, 4, s, 6] sin",
    ),
    "the cosines and sines are not known to have a row for each position": (
        TURN + SUM,
        "float[b, 4, s, 6] x, float[1, 6] cos, float[1, 6] sin",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_near_misses_say_why(reason: str) -> None:
    """What turns by other angles than a rotary embedding is left alone."""
    graph = rotary(*REFUSED[reason])
    done = fuse(graph)
    assert reasons(done, "rotary") == [reason]
    assert not done.matched


UNLIKE = {
    "not negated": TURN.replace("Neg (high)", "Identity (high)"),
    "the other half negated": TURN.replace("(minus, low)", "(low, minus)"),
    "cut elsewhere": TURN.replace("zero, three", "zero, two").replace("three, six", "two, six"),
    "halves of two values": TURN.replace("Slice (x, three", "Slice (other, three"),
    "overlapping": TURN.replace("three, six", "two, six"),
    "neighbours swapped": PAIRED_TURN.replace("(x, zero", "(x, first")
    .replace("(x, one", "(x, zero")
    .replace("(x, first", "(x, one"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_other_sums_of_products_are_none_of_it(name: str) -> None:
    """A slice, a sign or an order that differs makes it something else."""
    tables = PAIRED_TABLES if "neighbours" in name else TABLES
    graph = rotary(tables + UNLIKE[name] + SUM, INPUTS + ", float[b, 4, s, 6] other")
    assert not fuse(graph).matched
