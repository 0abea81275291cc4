"""Attention that weighs from the right: values [..., size, keys] times probabilities [..., keys, queries]."""

from __future__ import annotations

import pytest
from attention_text import (
    BASE,
    CONSTANTS,
    LENGTHS,
    MASK,
    PRODUCT,
    assert_same,
    fuse,
    model,
    random_feeds,
    reasons,
)

SOFTMAX = "scores = Where (mask, product, low) p = Softmax <axis = -1> (scores) "
TURNED = "pt = Transpose <perm = [0, 1, 3, 2]> (p) "
VALUES = "vt = Transpose <perm = [0, 1, 3, 2]> (v) "
ROWS = "float[b, 4, s, 6] y"
COLUMNS = "float[b, 4, 6, s] y"

FUSED = {
    "values first": (TURNED + VALUES + "y = MatMul (vt, pt)", COLUMNS),
    "exchanged twice": (TURNED + "again = Transpose <perm = [0, 1, 3, 2]> (pt) y = MatMul (again, v)", ROWS),
    "Einsum": (TURNED + 'y = Einsum <equation = "bhkq,bhkd->bhqd"> (pt, v)', ROWS),
    "Einsum, values first": (TURNED + 'y = Einsum <equation = "bhkd,bhkq->bhdq"> (v, pt)', COLUMNS),
}
REFUSED = {
    "sums over queries, exchanged": TURNED + "y = MatMul (pt, v)",
    "sums over queries": VALUES + "y = MatMul (vt, p)",
    "sums over queries, Einsum": TURNED + 'y = Einsum <equation = "bhqk,bhkd->bhqd"> (pt, v)',
    "masked after it": TURNED + "z = Where (mask, pt, zero) " + VALUES + "y = MatMul (vt, z)",
    "other axes": "pt = Transpose <perm = [1, 0, 2, 3]> (p) y = MatMul (pt, v)",
}


@pytest.mark.parametrize("name", FUSED)
def test_the_result_is_exchanged_instead(name: str) -> None:
    finish, outputs = FUSED[name]
    text = PRODUCT + SOFTMAX + finish
    before, after = (model(text, inputs=BASE + MASK, outputs=outputs, constants=CONSTANTS) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert "Softmax" not in {node.op_type for node in after.graph}
    assert_same(
        before, after, [random_feeds(before, LENGTHS), random_feeds(before, {"b": 1, "s": 1, "t": 2})]
    )


def test_without_heads_as_in_a_decoder_of_images() -> None:
    """Pixels [batch, channels, pixels] attend to each other; the channels come out first again."""
    text = """
        qt = Transpose <perm = [0, 2, 1]> (q) product = MatMul (qt, k) scores = Mul (product, scale)
        p = Softmax <axis = -1> (scores) pt = Transpose <perm = [0, 2, 1]> (p) y = MatMul (v, pt)
    """
    inputs = "float[b, 6, s] q, float[b, 6, s] k, float[b, 6, s] v"
    options = {"inputs": inputs, "outputs": "float[b, 6, s] y", "constants": CONSTANTS}
    before, after = (model(text, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, LENGTHS), random_feeds(before, {"b": 1, "s": 1})])


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_sum_over_the_keys_stays(name: str) -> None:
    """Queries and keys are equally many, so that every one of these products runs."""
    inputs = "float[4, 4, 5, 6] q, float[4, 4, 5, 6] k, float[4, 4, 5, 6] v, bool[4, 1, 1, 5] mask"
    outputs = "float[4, 4, 6, 5] y" if "vt" in REFUSED[name] else "float[4, 4, 5, 6] y"
    text = PRODUCT + SOFTMAX + REFUSED[name]
    before, after = (model(text, inputs=inputs, outputs=outputs, constants=CONSTANTS) for _ in range(2))
    assert fuse(after).matched["attention"] == 0
    assert_same(before, after, [random_feeds(before, {})])


def test_lines_broken_anew_are_not_exchanged() -> None:
    """[queries, keys] reshaped to [keys, queries] are other numbers than its transpose."""
    text = """
        kt = Transpose <perm = [0, 1, 3, 2]> (k) scores = MatMul (q, kt) p = Softmax <axis = -1> (scores)
        whole = Shape (p) pair = Constant <value_ints = [0, 1, 3, 2]> () turned = Gather (whole, pair)
        broken = Reshape (p, turned) y = MatMul (broken, v)
    """
    inputs = "float[b, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, s, 6] v"
    before, after = (model(text, inputs=inputs, outputs="float[b, 4, t, 6] y") for _ in range(2))
    assert fuse(after).matched["attention"] == 0
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_the_reason_names_the_sum() -> None:
    inputs = "float[4, 4, 5, 6] q, float[4, 4, 5, 6] k, float[4, 4, 5, 6] v, bool[4, 1, 1, 5] mask"
    graph = model(PRODUCT + SOFTMAX + TURNED + "y = MatMul (pt, v)", inputs=inputs, constants=CONSTANTS)
    assert reasons(fuse(graph)) == ["the product with the values does not sum over the keys"]
