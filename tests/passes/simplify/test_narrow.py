"""A broadcast that every reader repeats is not made; one that a reader can see is."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import formula, parse, simplify

EXPAND = "t = Shape(x) e = Expand(m, t)"


def test_expand_before_an_elementwise_reader() -> None:
    body = f"(float[B,S] x, float[S] m) => (float[B,S] y) {{ {EXPAND} y = Add(x, e) }}"
    assert formula(body) == "Add(x, m)"


def test_expand_through_several_nodes() -> None:
    """An attention mask: expanded, negated, chosen by Where, then added to the scores."""
    body = f"""(float[B,S] x, bool[S] m) => (float[B,S] y) {{
        {EXPAND} n = Not(e) w = Where(n, low, zero) y = Add(x, w) }}"""
    constants = {"low": np.float32(-1e9), "zero": np.float32(0)}
    assert formula(body, constants=constants) == "Add(x, Where(Not(m), -1000000000.0, 0.0))"


@pytest.mark.parametrize(
    ("rest", "out"),
    [
        ("y = Add(x, e) z = ReduceSum<keepdims=0>(e)", ", float z"),  # a sum counts the copies
        ("y = Add(x, e) z = Neg(e)", ", float[B,S] z"),  # an output has a shape of its own
        ("n = Neg(e) y = Add(n, k)", ""),  # nothing else makes it wide
        ("s = Softmax<axis=0>(e) y = Add(x, s)", ""),  # it shares one among the copies
    ],
)
def test_a_reader_that_sees_the_shape(rest: str, out: str) -> None:
    body = f"(float[B,S] x, float[S] m) => (float[B,S] y{out}) {{ {EXPAND} {rest} }}"
    assert "Expand" in formula(body, constants={"k": np.float32(1)})


def test_two_wide_operands_that_both_come_from_it() -> None:
    """Each alone would be made wide by the other; together they are not."""
    body = f"(float[B,S] x, float[S] m) => (float[B,S] y) {{ {EXPAND} p = Neg(e) q = Abs(e) y = Add(p, q) }}"
    assert "Expand" in formula(body)


def test_all_true_operand() -> None:
    """And(range >= 0, padding) repeats the padding along an axis that the scores have anyway."""
    body = """(float[B,S,S] x, bool[B,1,S] p) => (float[B,S,S] y) {
        sv = Shape<start=1,end=2>(x) s = Squeeze(sv) r = Range(zero, s, one) u = Unsqueeze(r, last)
        g = GreaterOrEqual(u, zero) a = And(g, p) w = Where(a, f0, f1) y = Add(x, w) }"""
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "last": [-1],
        "f0": np.float32(0),
        "f1": np.float32(-9),
    }
    assert formula(body, constants=constants) == "Add(x, Where(p, 0.0, -9.0))"
    for sometimes_false in ("Greater(u, zero)", "GreaterOrEqual(u, one)", "LessOrEqual(u, zero)"):
        other = body.replace("GreaterOrEqual(u, zero)", sometimes_false)
        assert "And" in formula(other, constants=constants)


def test_comparisons_of_constants_and_shapes() -> None:
    body = "(bool[B] x) => (bool[B] y) {{ s = Size(x) c = {} a = And(x, c) y = Not(a) }}"
    constants = {"zero": np.int64(0), "minus": np.int64(-1), "one": np.int64(1)}
    for always in ("GreaterOrEqual(s, zero)", "Greater(s, minus)", "Less(minus, s)", "LessOrEqual(zero, s)"):
        assert formula(body.format(always), constants=constants) == "Not(x)"
    for unknown in ("Greater(s, zero)", "GreaterOrEqual(s, one)", "Equal(s, one)", "Less(s, one)"):
        assert "And" in formula(
            body.format(unknown), constants=constants, sizes=({"B": 1}, {"B": 0}, {"B": 3})
        )


def test_large_fan_out_is_linear() -> None:
    nodes = "".join(f"a{i} = Add(x, e) " for i in range(200))
    sums = "s0 = Add(a0, a0) " + "".join(f"s{i} = Mul(s{i - 1}, a{i}) " for i in range(1, 200))
    model = parse(f"(float[B,S] x, float[S] m) => (float[B,S] s199) {{ {EXPAND} {nodes} {sums} }}")
    assert "Expand" not in [node.op_type for node in simplify(model, feeds=[]).model.graph]
