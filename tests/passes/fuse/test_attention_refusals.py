"""What is not certainly attention stays as it is, and the reason is told."""

from __future__ import annotations

import pytest
from attention_text import (
    BASE,
    CONSTANTS,
    FINISH,
    LENGTHS,
    MASK,
    PRODUCT,
    assert_same,
    fuse,
    model,
    ops,
    random_feeds,
    reasons,
)

REFUSED = {
    "scale is not a constant": ("scores = Mul (product, factor)", FINISH),
    "the softmax is not over the last axis": (
        "scores = Identity (product)",
        "weights = Softmax <axis = 2> (scores) y = MatMul (weights, v)",
    ),
    "masked scores are set to -100, not low enough to mean no attention": (
        "little = Constant <value_float = -100.0> () scores = Where (mask, product, little)",
        FINISH,
    ),
    "masked scores are set to something that is not a constant": (
        "scores = Where (mask, product, factor)",
        FINISH,
    ),
    "scores are raised to -100": (
        "floor = Constant <value_float = -100.0> () a = Add (product, bias) scores = Max (a, floor)",
        FINISH,
    ),
    "the scores go through Max before the softmax": ("scores = Max (product, bias)", FINISH),
    "the scores go through Clip before the softmax": (
        "floor = Constant <value_float = -1e38> () top = Constant <value_float = 50.0> () "
        "scores = Clip (product, floor, top)",
        FINISH,
    ),
    "scores are scaled after they were masked, raised before": (
        "floor = Constant <value_float = -1e38> () a = Add (product, bias) b = Max (floor, a) "
        "scores = Mul (b, scale)",
        FINISH,
    ),
    "a bias is added after masked scores were set to -10000": (
        "c = Constant <value_float = -10000.0> () a = Where (mask, product, c) scores = Add (a, bias)",
        FINISH,
    ),
    "masked scores are set to -3.40282e+38, and then others to -10000": (
        "c = Constant <value_float = -10000.0> () a = Where (other, product, lowest) "
        "scores = Where (mask, a, c)",
        FINISH,
    ),
    "masked scores are set to -10000, and others raised to -1e+38": (
        "c = Constant <value_float = -10000.0> () floor = Constant <value_float = -1e38> () "
        "a = Add (product, bias) b = Where (mask, a, c) scores = Max (b, floor)",
        FINISH,
    ),
    "scores are scaled after they were masked": (
        "a = Where (mask, product, lowest) scores = Mul (a, scale)",
        FINISH,
    ),
    "the probabilities are masked after the softmax, by what did not mask the scores": (
        "scores = Where (other, product, lowest)",
        "p = Softmax <axis = -1> (scores) w = Where (mask, p, zero) y = MatMul (w, v)",
    ),
    "a mask has more axes than the scores": ("scores = Add (product, five)", FINISH),
    "scores are scaled after they were masked, below zero": (
        "minus = Constant <value_float = -1.0> () a = Where (mask, product, low) scores = Mul (a, minus)",
        FINISH,
    ),
    "scale is not a constant, being infinite": ("r = Div (two, zero) scores = Mul (product, r)", FINISH),
    "the probabilities are masked after the softmax, by what did not mask the scores but the contrary": (
        "scores = Where (mask, lowest, product)",
        "p = Softmax <axis = -1> (scores) w = Where (mask, p, zero) y = MatMul (w, v)",
    ),
    "the probabilities are masked after the softmax, by what did not mask the scores, NaN of another value": (
        "scores = Mul (product, scale)",
        "p = Softmax <axis = -1> (scores) n = IsNaN (bias) w = Where (n, zero, p) y = MatMul (w, v)",
    ),
    "the scores are reshaped before the softmax": (
        "pair = Constant <value_ints = [0, 4, 7, -1]> () scores = Reshape (product, pair)",
        FINISH,
    ),
    "the scores are divided by 0": ("scores = Div (product, zero)", FINISH),
    "its intermediate 'product' has another reader": (
        "scores = Mul (product, scale) extra = Relu (product)",
        FINISH,
    ),
    "its intermediate 'weights' is an output of the graph": ("scores = Mul (product, scale)", FINISH),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_near_misses_say_why(reason: str) -> None:
    """What cannot be fused is left alone, with the reason."""
    middle, finish = REFUSED[reason]
    outputs = "float[b, 4, s, 6] y"
    outputs += ", float[b, 4, s, t] extra" if "extra" in middle else ""
    outputs += ", float[b, 4, s, t] weights" if "'weights'" in reason else ""
    inputs = BASE + MASK + ", bool[b, 1, s, t] other, float[1, 4, s, t] bias, float factor"
    inputs += ", float[2, b, 4, s, t] five"
    graph = model(PRODUCT + middle + finish, inputs=inputs, constants=CONSTANTS, outputs=outputs)
    count = len(ops(graph))
    done = fuse(graph)
    (found,) = reasons(done)
    assert reason.startswith(found)
    assert not done.matched
    assert len(ops(graph)) == count


MISFITS = {
    "a mask of 9 is not known to fit scores of 1": BASE.replace("s,", "1,") + ", float[1, 1, 9, t] mask",
    "a mask of u is not known to fit scores of s": BASE + ", float[1, 1, u, t] mask",
    "a mask of 2 is not known to fit scores of 4": BASE + ", float[1, 2, s, t] mask",
    "queries and keys differ in their number of heads": BASE.replace("4, s", "1, s") + ", float mask",
    "queries, keys and values are not known to have the same batch and heads": (
        BASE.replace("b, 4, s", "2, 4, s") + ", float mask"
    ),
    "keys and values differ in length": (
        BASE.replace("t, 6] k", "5, 6] k").replace("t, 6] v", "7, 6] v") + ", float mask"
    ),
}


@pytest.mark.parametrize("reason", MISFITS)
def test_shapes_that_may_broadcast_are_refused(reason: str) -> None:
    """Where a product or a mask would widen the result, or may, nothing is fused."""
    text = PRODUCT + "scores = Add (product, mask)" + FINISH
    graph = model(text, inputs=MISFITS[reason], outputs="float[b, n, s, 6] y")
    done = fuse(graph)
    assert reasons(done) == [reason]
    assert not done.matched


def test_lengths_that_the_product_makes_equal_need_no_common_name() -> None:
    """A mask that is known to fit the keys widens nothing, so as many values are needed."""
    text = PRODUCT + "scores = Add (product, mask)" + FINISH
    inputs = BASE.replace("t, 6] v", "u, 6] v") + ", float[1, 1, s, t] mask"
    graph = model(text, inputs=inputs, outputs="float[b, n, s, 6] y")
    assert fuse(graph).matched == {"attention": 1}


NO_ATTENTION = {
    "the dividend is a number": (
        "r = Div (two, q) kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (r, kt)",
        "y = MatMul (weights, v)",
        1,
    ),
    "masked probabilities become 2": (
        PRODUCT.replace("product =", "raw =") + "product = Where (mask, raw, lowest)",
        "w = Where (mask, weights, two) y = MatMul (w, v)",
        0,
    ),
    "both operands are summed by themselves": (
        'product = Einsum <equation = "bnsd,bnte->bnst"> (q, k)',
        "y = MatMul (weights, v)",
        0,
    ),
    "the keys stay": (PRODUCT, 'y = Einsum <equation = "bnst,bnsd->bntd"> (weights, v)', 0),
}


@pytest.mark.parametrize("name", NO_ATTENTION)
def test_what_only_looks_like_it_stays_right(name: str) -> None:
    """One detail makes it another function: that part is left as it is."""
    product, finish, fused = NO_ATTENTION[name]
    text = product + "weights = Softmax <axis = -1> (product)" + finish
    inputs = BASE.replace("t,", "s,") + ", bool[b, 1, 1, s] mask"
    before, after = (model(text, inputs=inputs, constants=CONSTANTS) for _ in range(2))
    assert fuse(after).matched["attention"] == fused
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_a_softmax_that_weighs_nothing_is_no_near_miss() -> None:
    """A classifier's softmax is not reported."""
    graph = model("y = Softmax <axis = -1> (q)", inputs="float[b, 4, s, 6] q")
    assert not fuse(graph).skipped


UNFOLLOWED = {
    "the probabilities go through Pad before they weigh values": (
        "scores = Identity (product) p = Softmax <axis = -1> (scores) "
        "sides = Constant <value_ints = [0, 0, 0, 1, 0, 0, 0, 1]> () band = Pad (p, sides) "
        "width = Shape <start = 3> (band) six = Constant <value_ints = [6]> () "
        "size = Concat <axis = 0> (width, six) "
        "values = ConstantOfShape (size) y = MatMul (band, values)"
    ),
    "additive attention: its weights multiply the values element by element and are summed up": (
        "scores = Identity (product) p = Softmax <axis = -1> (scores) w = Mul (p, bias) "
        "axis = Constant <value_ints = [-2]> () y = ReduceSum (w, axis)"
    ),
}


@pytest.mark.parametrize("reason", UNFOLLOWED)
def test_other_ways_to_weigh_values_are_named(reason: str) -> None:
    inputs = BASE + MASK + ", float[1, 4, s, t] bias"
    graph = model(PRODUCT + UNFOLLOWED[reason], inputs=inputs, outputs="float[b, 4, o, p] y")
    done = fuse(graph)
    assert not done.matched["attention"] and reasons(done) == [reason]


def test_probabilities_that_are_the_result_are_no_near_miss() -> None:
    """A classifier ends in a softmax over a product; nothing is to be told of that."""
    graph = model(PRODUCT + "y = Softmax <axis = -1> (product)", outputs="float[b, 4, s, t] y")
    assert not fuse(graph).skipped
