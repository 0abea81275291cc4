"""In which axes attention over products of rank 3 is seen."""

from __future__ import annotations

import pytest
from attention_text import assert_same, call, fuse, model, random_feeds

MERGED = """
    q3 = Reshape (q, queries)
    k3 = Reshape (k, keys)
    v3 = Reshape (v, values)
    scores = MatMul (q3, k3)
    weights = Softmax <axis = -1> (scores)
    attended = MatMul (weights, v3)
    y = Reshape (attended, whole)
"""
SHAPES = (
    "int64[3] queries = {-1, 5, 6}, int64[3] keys = {-1, 6, 7}, int64[3] values = {-1, 7, 6}, "
    "int64[4] whole = {-1, 4, 5, 6}"
)


@pytest.mark.parametrize(
    ("queries", "kind"),
    [("b, 4, 5, 6", "Attention"), ("b, 4, 6, 5", "MultiHeadAttention")],
    ids=["merged axes", "other rows"],
)
def test_heads_merged_into_the_batch_come_back(queries: str, kind: str) -> None:
    """Where the reshape leaves rows as they are, its input has the heads; any other says nothing of them."""
    inputs = f"float[{queries}] q, float[b, 4, 6, 7] k, float[b, 4, 7, 6] v"
    options = {"inputs": inputs, "outputs": "float[b, 4, 5, 6] y", "constants": SHAPES}
    before, after = (model(MERGED, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert call(after).op_type == kind  # of a single head, [batch, rows, columns], where heads are not seen
    assert_same(before, after, [random_feeds(before, {"b": 2})])
