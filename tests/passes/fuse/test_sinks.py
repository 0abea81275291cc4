"""Attention in whose softmax a learned logit takes part: found in its forms and right, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from attention_text import (
    BASE,
    CONSTANTS,
    LENGTHS,
    MASK,
    PRODUCT,
    assert_same,
    call,
    facts,
    fuse,
    model,
    ops,
    random_feeds,
    reasons,
)

from optc import rewrite

INPUTS = BASE + MASK + ", float[1, 4, s, t] bias, float[b, 4, s, 1] own"
SINKS = "float[1, 4, 1, 1] learned = {0.5, -2, 1, 3}, float[1, 4, 1, 1] deep = {0.5, -9000, 1, 3}"
BOUNDS = "int64[1] begin = {0}, int64[1] second = {1}, int64[1] end = {-1}, int64[1] axis = {3}"
BOUNDS += ", int64[1] far = {9223372036854775807}, int64[1] one = {1}, int64[1] two_columns = {-2}"
EXPAND = (
    "z = Shape <start = 0, end = 3> (product) e = Concat <axis = 0> (z, one) sinks = Expand (learned, e) "
)
JOIN = "joint = Concat <axis = -1> (scores, sinks) "
FINISH = "p = Softmax <axis = -1> (joint) w = Slice (p, begin, end, axis) y = MatMul (w, v)"


def attention(body: str, *, opset: int = 20, outputs: str = "float[b, 4, s, 6] y") -> rewrite.ir.Model:
    constants = f"{CONSTANTS}, {SINKS}, {BOUNDS}"
    return model(PRODUCT + body, inputs=INPUTS, constants=constants, opset=opset, outputs=outputs)


# name -> the statements behind the product, the facts of the call, the operators around it
FORMS = {
    "plain": ("scores = Identity (product) " + EXPAND + JOIN + FINISH, {"scale": 1}, ["SinkAttention"]),
    "scaled": ("scores = Mul (product, scale) " + EXPAND + JOIN + FINISH, {"scale": 0.4}, ["SinkAttention"]),
    "added mask": (
        "scores = Add (product, bias) " + EXPAND + JOIN + FINISH,
        {"causal": 0},
        ["SinkAttention"],
    ),
    "bool mask": (
        "scores = Where (mask, product, low) " + EXPAND + JOIN + FINISH,
        {"safe": 0},
        ["SinkAttention"],
    ),
    "lowest": (
        "scores = Where (mask, product, lowest) " + EXPAND + JOIN + FINISH,
        {"safe": 0},
        ["Where", "SinkAttention"],
    ),
    "first column": (
        "scores = Identity (product) " + EXPAND + "joint = Concat <axis = 3> (sinks, scores) "
        "p = Softmax <axis = -1> (joint) w = Slice (p, second, far, axis, one) y = MatMul (w, v)",
        {"scale": 1},
        ["SinkAttention"],
    ),
    "by query": (
        "scores = Identity (product) joint = Concat <axis = -1> (scores, own) " + FINISH,
        {"scale": 1},
        ["SinkAttention"],
    ),
    "rows set to 0 after": (
        "scores = Where (mask, product, lowest) " + EXPAND + JOIN + "p = Softmax <axis = -1> (joint) "
        "c = Slice (p, begin, end, axis) w = Where (mask, c, zero) y = MatMul (w, v)",
        {"safe": 1},
        ["SinkAttention"],
    ),
    "dropout between": (
        "scores = Identity (product) " + EXPAND + JOIN + "p = Softmax <axis = -1> (joint) "
        "c = Slice (p, begin, end, axis) w = Dropout (c) y = MatMul (w, v)",
        {"scale": 1},
        ["SinkAttention"],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_sinks_are_found(name: str) -> None:
    """One call with the logits as they came, the same numbers, and nothing more to do the second time."""
    body, expected, around = FORMS[name]
    before, after = attention(body), attention(body)
    done = fuse(after)
    assert done.matched["attention"] == 1 and not reasons(done)
    assert ops(after) == around
    found = call(after)
    assert rewrite.kind(found) == "SinkAttention"
    assert {key: facts(found)[key] for key in expected} == expected
    assert found.inputs[3].name == ("own" if name == "by query" else "learned")
    feeds = [random_feeds(before, sizes) for sizes in (LENGTHS, {**LENGTHS, "b": 1, "t": 1})]
    assert_same(before, after, feeds)
    assert not fuse(after).matched["attention"]


@pytest.mark.parametrize("opset", [13, 20])
def test_bodies_are_plain_onnx_of_old_operator_sets_too(opset: int) -> None:
    body = "scores = Mul (product, scale) joint = Concat <axis = -1> (scores, own) " + FINISH
    before, after = attention(body, opset=opset), attention(body, opset=opset)
    fuse(after)
    rewrite.inline(after)
    assert "Softmax" in ops(after)
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_logits_repeated_for_a_fixed_batch_are_one_row_again() -> None:
    """Folding writes the repetition out; what is the same for all rows and queries need not be kept so."""
    inputs = "float[2, 2, 3, 6] q, float[2, 2, 5, 6] k, float[2, 2, 5, 6] v"
    table = ", ".join(["1.5"] * 3 + ["-1"] * 3)
    constants = f"float[2, 2, 3, 1] sinks = {{{table}, {table}}}, {BOUNDS}"
    text = PRODUCT + "scores = Identity (product) " + JOIN + FINISH
    before, after = (
        model(text, inputs=inputs, constants=constants, outputs="float[2, 2, 3, 6] y") for _ in range(2)
    )
    fuse(after)
    sink = call(after).inputs[3]
    assert list(sink.shape) == [1, 2, 1, 1]
    assert_same(before, after, [random_feeds(before, {})])


def test_heads_that_share_keys_stay_shared() -> None:
    repeat = "{0}5 = Unsqueeze ({0}2, pair) {0}w = Expand ({0}5, wide) {0} = Reshape ({0}w, heads) "
    inputs = "float[b, 4, s, 6] q, float[b, 2, 7, 6] k2, float[b, 2, 7, 6] v2"
    sizes = "int64[1] pair = {2}, int64[5] wide = {1, 1, 2, 1, 1}, int64[4] heads = {0, 4, 7, 6}"
    text = repeat.format("k") + repeat.format("v") + PRODUCT + "scores = Identity (product) "
    text += EXPAND + JOIN + FINISH
    before, after = (model(text, inputs=inputs, constants=f"{SINKS}, {BOUNDS}, {sizes}") for _ in range(2))
    fuse(after)
    assert ops(after) == ["SinkAttention"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


SOFT = "p = Softmax <axis = -1> (joint) "
REFUSED = {
    "a column of the probabilities is dropped that is no sink": "joint = Mul (product, scale) " + FINISH,
    "a column is joined to the scores, and not dropped from the probabilities": (
        "scores = Identity (product) " + EXPAND + JOIN + SOFT + "w = Slice (p, second, far, axis) "
        "y = MatMul (w, v)"
    ),
    "the scores go through Mul with a sink among them": (
        "scores = Identity (product) " + EXPAND + "a = Concat <axis = -1> (scores, sinks) "
        "joint = Mul (a, scale) " + FINISH
    ),
    "masked scores are set to -10000, next to a sink of -9000": (
        "c = Constant <value_float = -10000.0> () scores = Where (mask, product, c) "
        + EXPAND.replace("learned", "deep")
        + JOIN
        + FINISH
    ),
    "masked scores are set to -10000, next to a sink that is not a constant": (
        "c = Constant <value_float = -10000.0> () scores = Where (mask, product, c) "
        "joint = Concat <axis = -1> (scores, own) " + FINISH
    ),
    "a sink joins scores that are capped": (
        "a = Tanh (product) scores = Mul (a, two) " + EXPAND + JOIN + FINISH
    ),
    "its intermediate 'p' has another reader": (
        "scores = Identity (product) " + EXPAND + JOIN + FINISH + " extra = Relu (p)"
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals_say_why(reason: str) -> None:
    outputs = "float[b, 4, s, 6] y" + (", float[b, 4, s, u] extra" if "extra" in REFUSED[reason] else "")
    graph = attention(REFUSED[reason], outputs=outputs)
    before = ops(graph)
    done = fuse(graph)
    assert not done.matched["attention"] and ops(graph) == before
    assert reasons(done) == [reason]


NOT_A_COLUMN = {
    "two columns dropped": SOFT + "w = Slice (p, begin, two_columns, axis) y = MatMul (w, v)",
    "another axis": SOFT + "w = Slice (p, begin, end, begin) y = MatMul (w, v)",
}


@pytest.mark.parametrize("name", NOT_A_COLUMN)
def test_other_slices_are_no_attention(name: str) -> None:
    inputs = "float[2, 4, 3, 6] q, float[2, 4, 5, 6] k, float[2, 4, u, 6] v"
    graph = model(
        PRODUCT + "joint = Identity (product) " + NOT_A_COLUMN[name],
        inputs=inputs, constants=BOUNDS, outputs="float[c, 4, 3, 6] y",
    )  # fmt: skip
    assert not fuse(graph).matched["attention"]


def test_sinks_that_do_not_fit_the_queries_are_refused() -> None:
    """A sink by name of another batch: Concat would hold the model to it when it runs, not before."""
    inputs = BASE + ", float[other_b, 4, s, 1] own"
    graph = model(
        PRODUCT + "scores = Identity (product) joint = Concat <axis = -1> (scores, own) " + FINISH,
        inputs=inputs, constants=BOUNDS,
    )  # fmt: skip
    done = fuse(graph)
    assert not done.matched["attention"] and "is not known to fit" in reasons(done)[0]


def test_an_infinite_sink_takes_part_as_softmax_says() -> None:
    """A sink of -inf is none; of +inf it makes rows NaN, in the function as in the graph."""
    body = "scores = Identity (product) joint = Concat <axis = -1> (scores, own) " + FINISH
    before, after = attention(body), attention(body)
    fuse(after)
    feeds = random_feeds(before, LENGTHS)
    feeds["own"][0], feeds["own"][1] = -np.inf, np.inf
    assert_same(before, after, [feeds])
