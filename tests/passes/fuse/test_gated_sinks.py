"""Sinks written as a gate, sigmoid(logsumexp(scores) - sink), behind the values: fused, right, or refused."""

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

from optc import oracle, rewrite

INPUTS = BASE + MASK + ", float[1, 4, s, t] bias, float[b, 4, s, 1] own, float[s] by_query"
SINKS = (
    "float[1, 4, 1] learned = {0.5, -2, 1, 3}, float[1, 4, 1, 1] wide = {0.5, -2, 1, 3}, float same = {1.5}"
)
PLAIN = "scores = Identity (product) "
AXES = "int64[1] last = {-1}, int64[1] third = {3}, int64[1] second = {2}"
SOFTMAX = "p = Softmax <axis = -1> (scores) attended = MatMul (p, v) "
GATE = SOFTMAX + (
    "total = ReduceLogSumExp <keepdims = 0> (scores, last) gap = Sub (total, learned) gate = Sigmoid (gap) "
    "column = Unsqueeze (gate, last) y = Mul (attended, column)"
)
KEPT = SOFTMAX + (
    "total = ReduceLogSumExp (scores, third) gap = Sub (total, wide) gate = Sigmoid (gap) "
    "y = Mul (gate, attended)"
)
LOWEST = "scores = Where (mask, product, lowest) "


def attention(body: str, *, opset: int = 20) -> rewrite.ir.Model:
    constants = f"{CONSTANTS}, {SINKS}, {AXES}"
    return model(PRODUCT + body, inputs=INPUTS, constants=constants, opset=opset)


# name -> the statements behind the product, the operators around the call
FORMS = {
    "by an added axis": ("scores = Mul (product, scale) " + GATE, ["SinkAttention"]),
    "by a kept axis": ("scores = Mul (product, scale) " + KEPT, ["SinkAttention"]),
    "the last axis by its number": (
        PLAIN + GATE.replace("scores, last", "scores, third").replace("gate, last", "gate, third"),
        ["SinkAttention"],
    ),
    "one number": (PLAIN + GATE.replace("learned", "same"), ["SinkAttention"]),
    "computed": (PLAIN + KEPT.replace("wide", "own"), ["SinkAttention"]),
    "computed, by an added axis": (
        PLAIN + GATE.replace("learned", "by_query"),
        ["Unsqueeze", "SinkAttention"],
    ),
    "masked by the lowest number": (LOWEST + GATE, ["Where", "SinkAttention"]),
    "added lowest number": (
        "added = Where (mask, zero, lowest) scores = Add (product, added) " + GATE,
        ["Where", "SinkAttention"],
    ),
    "rows without keys are 0": (
        "scores = Where (mask, product, low) "
        + GATE.replace(
            "attended = MatMul (p, v)", "n = IsNaN (p) w = Where (n, zero, p) attended = MatMul (w, v)"
        ),
        ["SinkAttention"],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_gates_are_sinks(name: str) -> None:
    """One call with one more logit, the same numbers, and nothing more to do the second time."""
    body, around = FORMS[name]
    before, after = attention(body), attention(body)
    done = fuse(after)
    assert done.matched["attention"] == 1 and not reasons(done)
    assert ops(after) == around
    assert rewrite.kind(call(after)) == "SinkAttention"
    assert facts(call(after))["safe"] == (name == "rows without keys are 0")
    feeds = [random_feeds(before, sizes) for sizes in (LENGTHS, {**LENGTHS, "b": 1, "t": 1})]
    feeds[0]["mask"][0] = False  # the first row of the batch keeps no key
    assert_same(before, after, feeds)
    assert not fuse(after).matched["attention"]


def test_the_axes_of_old_operator_sets_are_attributes() -> None:
    body = PLAIN + GATE.replace("(scores, last)", "(scores)").replace(
        "<keepdims = 0>", "<keepdims = 0, axes = [-1]>"
    )
    before, after = attention(body, opset=13), attention(body, opset=13)
    assert fuse(after).matched["attention"] == 1
    assert rewrite.kind(call(after)) == "SinkAttention"
    assert_same(before, after, [random_feeds(before, LENGTHS)])


# name -> the statements behind the product, what the reason says
REFUSED = {
    "a row without keys is NaN": ("scores = Where (mask, product, low) " + GATE, "row without keys is NaN"),
    "a mask of unknown numbers": ("scores = Add (product, bias) " + GATE, "may leave a row without keys"),
    "the sum is not over the keys": (
        PLAIN + KEPT.replace("(scores, third)", "(scores, second)"),
        "not over the keys",
    ),
    "the gap is turned round": (
        PLAIN + GATE.replace("Sub (total, learned)", "Sub (learned, total)"),
        "has another reader",
    ),
    "another sum": (
        "scores = Mul (product, scale) " + GATE.replace("(scores, last)", "(product, last)"),
        "has another reader",
    ),
    "the attended values are read besides": (
        PLAIN + GATE.replace("y = Mul", "twice = Mul") + " y = Add (twice, attended)",
        "has another reader",
    ),
    "a second sink among the scores": (
        "joint = Concat <axis = -1> (product, own) scores = Identity (joint) " + GATE,
        "with another sink among the scores",
    ),
    "a gate beside the capped scores": (
        "a = Div (product, two) c = Tanh (a) scores = Mul (c, two) " + GATE,
        "scores that are capped",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sink_stays(name: str) -> None:
    body, reason = REFUSED[name]
    if name == "a second sink among the scores":
        body = body.replace(
            "attended = MatMul (p, v)", "c = Slice (p, from, to, last) attended = MatMul (c, v)"
        )
    constants = f"{CONSTANTS}, {SINKS}, {AXES}, int64[1] from = {{0}}, int64[1] to = {{-1}}"
    graph = model(PRODUCT + body, inputs=INPUTS, constants=constants)
    done = fuse(graph)
    assert not done.matched["attention"]
    assert any(reason in each for each in reasons(done)), reasons(done)


def test_a_sink_far_above_the_scores_leaves_nothing() -> None:
    """Where the sink takes nearly all, the gate and the softmax underflow alike."""
    body = PLAIN + KEPT.replace("wide", "own")
    before, after = attention(body), attention(body)
    assert fuse(after).matched["attention"] == 1
    feeds = random_feeds(before, LENGTHS)
    feeds["own"] = feeds["own"] + np.float32(200)
    for graph in (before, after):
        np.testing.assert_allclose(oracle.run(graph, feeds)["y"], 0.0, atol=1e-30)
