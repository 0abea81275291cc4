"""Queries that all of the batch has in common, as learned ones are: attention all the same."""

from __future__ import annotations

import numpy as np
import pytest
from attention_text import (
    FINISH,
    LENGTHS,
    MERGE,
    PRODUCT,
    assert_same,
    call,
    fuse,
    model,
    random_feeds,
    reasons,
)

KEYS = "float[b, 4, t, 6] k, float[b, 4, t, 6] v, bool[b, 1, 1, t] mask, bool[1, 4, s, t] own"
LOW = "float low = {-inf}"
PLAIN = "scores = Identity (product)"
FORMS = {
    "batch of one": ("float[1, 4, s, 6] q", PLAIN, PRODUCT),
    "no batch": ("float[4, s, 6] q", PLAIN, PRODUCT),
    "padding": ("float[1, 4, s, 6] q", "scores = Where (mask, product, low)", PRODUCT),
    "mask of the queries": ("float[4, s, 6] q", "scores = Where (own, product, low)", PRODUCT),
    "einsum": ("float[4, s, 6] q", PLAIN, 'product = Einsum <equation = "nsd,bntd->bnst"> (q, k)'),
    "einsum, turned": ("float[s, 4, 6] q", PLAIN, 'product = Einsum <equation = "bntd,snd->bnst"> (k, q)'),
}


@pytest.mark.parametrize("form", FORMS)
def test_shared_queries_are_attention(form: str) -> None:
    queries, middle, product = FORMS[form]
    options = {"inputs": f"{queries}, {KEYS}", "constants": LOW}
    before, after = (model(product + middle + FINISH, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert call(after).op_type == "Attention"
    feeds = [random_feeds(before, LENGTHS), random_feeds(before, {"b": 1, "s": 2, "t": 3})]
    assert_same(before, after, feeds)


def test_masks_for_scores_with_the_heads_in_the_batch() -> None:
    """Their layout follows from the batch of the keys."""
    middle = """
        whole = Constant <value_ints = [-1, 5, 7]> ()  flat = Reshape (product, whole)
        more = Add (flat, bias)
        parts = Constant <value_ints = [-1, 4, 5, 7]> ()  scores = Reshape (more, parts)
    """
    inputs = "float[1, 4, 5, 6] q, float[3, 4, 7, 6] k, float[3, 4, 7, 6] v, float[12, 5, 7] bias"
    before, after = (
        model(PRODUCT + middle + FINISH, inputs=inputs, outputs="float[3, 4, 5, 6] y") for _ in range(2)
    )
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, {})])


@pytest.mark.parametrize("queries", ["1, s, 6", "s, 6"])
def test_without_heads(queries: str) -> None:
    inputs = f"float[{queries}] q, float[b, t, 6] k, float[b, t, 5] v"
    text = PRODUCT.replace("0, 1, 3, 2", "0, 2, 1") + PLAIN + FINISH
    before, after = (model(text, inputs=inputs, outputs="float[b, s, 5] y") for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_an_einsum_s_result_has_the_batch_of_the_keys() -> None:
    """Its axes are put in order by a transpose, of the shape that the call is told to have."""
    finish = 'weights = Softmax <axis = -1> (scores) y = Einsum <equation = "bnst,bntd->bsnd"> (weights, v)'
    options = {"inputs": f"float[1, 4, s, 6] q, {KEYS}", "outputs": "float[b, s, 4, 6] y"}
    before, after = (model(PRODUCT + PLAIN + finish, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert call(after).outputs[0].shape[0] == "b"
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_heads_are_split_off_constant_queries_too() -> None:
    """Folded projections of a learned query; stock ONNX Runtime arranges them once."""
    constants = "int64[4] split = {0, 0, 4, 6}, int64[3] merge = {0, 0, 24}"
    text = """
        k_split = Reshape (k_in, split)  k = Transpose <perm = [0, 2, 1, 3]> (k_split)
        v_split = Reshape (v_in, split)  v = Transpose <perm = [0, 2, 1, 3]> (v_split)
    """
    finish = FINISH.replace("y = ", "attended = ") + MERGE
    inputs = "float[b, t, 24] k_in, float[b, t, 24] v_in"
    learned = np.random.default_rng(0).standard_normal((1, 4, 3, 6)).astype(np.float32)
    numbers = f"{constants}, float[1, 4, 3, 6] q = {{{', '.join(map(str, learned.reshape(-1)))}}}"
    before, after = (
        model(text + PRODUCT + PLAIN + finish, inputs=inputs, outputs="float[b, 3, 24] y", constants=numbers)
        for _ in range(2)
    )
    assert fuse(after).matched["heads"] == 1
    assert call(after).op_type == "MultiHeadAttention"
    assert_same(before, after, [random_feeds(before, LENGTHS)])


@pytest.mark.parametrize(
    ("inputs", "middle", "reason"),
    [
        ("float[2, 4, s, 6] q, " + KEYS, PLAIN, "not known to have the same batch"),
        ("float[1, 4, s, 6] q, float[b, 4, t, 6] k, float[c, 4, t, 6] v", PLAIN, "same batch and heads"),
        (
            "float[1, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v, bool[c, 1, 1, t] mask",
            "scores = Where (mask, product, low)",
            "not known to fit scores",
        ),
        (
            "float[1, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v, float[b, 4, s, 1] sink",
            "wide = Concat <axis = -1> (product, sink) scores = Softmax <axis = -1> (wide)",
            "queries of batch 1",
        ),
    ],
    ids=["batch of two", "values", "mask", "sink"],
)
def test_what_does_not_fit_stays(inputs: str, middle: str, reason: str) -> None:
    finish = FINISH
    if "sink" in inputs:
        finish = """
            from = Constant <value_ints: ints = [0]> () end = Constant <value_ints: ints = [-1]> ()
            weights = Slice (scores, from, end, end) y = MatMul (weights, v)
        """
    graph = model(PRODUCT + middle + finish, inputs=inputs, constants=LOW)
    done = fuse(graph)
    assert not done.matched
    assert any(reason in each for each in reasons(done)), reasons(done)


def test_an_einsum_of_three_operands_has_a_reason() -> None:
    finish = """
        weights = Softmax <axis = -1> (scores)
        y = Einsum <equation = "bnst,bntd,s->bnsd"> (weights, v, gate)
    """
    inputs = f"float[b, 4, s, 6] q, {KEYS}, float[s] gate"
    graph = model(PRODUCT + PLAIN + finish, inputs=inputs)
    assert reasons(fuse(graph)) == ["the probabilities weigh values in an Einsum of 3 operands"]
