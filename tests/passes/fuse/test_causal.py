"""A constant or computed mask that hides exactly the later keys becomes an attribute of attention."""

from __future__ import annotations

import pytest
from attention_text import (
    CONSTANTS,
    FINISH,
    LENGTHS,
    PRODUCT,
    assert_same,
    call,
    facts,
    fuse,
    model,
    random_feeds,
)

CAUSAL = {
    "keep": ("bool[3, 3] m = {1, 0, 0, 1, 1, 0, 1, 1, 1}", "scores = Where (m, product, low)", 1),
    "drop": ("bool[3, 3] m = {0, 1, 1, 0, 0, 1, 0, 0, 0}", "n = Not (m) scores = Where (n, product, low)", 0),
    "add": (
        "float[3, 3] m = {0, -inf, -inf, 0, 0, -inf, 0, 0, 0}",
        "scores = Add (product, m)",
        1,
    ),
    "add_finite": ("float[3, 3] m = {0, -9, -9, 0, 0, -9, 0, 0, 0}", "scores = Add (product, m)", 0),
    "one": ("bool[1, 1] m = {1}", "scores = Where (m, product, low)", 0),
    "band": ("bool[3, 3] m = {1, 0, 0, 1, 1, 0, 0, 1, 1}", "scores = Where (m, product, low)", 0),
    "computed": (
        "int64[2] square = {3, 3}",
        "o = ConstantOfShape <value = int64[1] {1}> (square) l = Trilu <upper = 0> (o) m = Cast <to = 9> (l)"
        "scores = Where (m, product, low)",
        1,
    ),
    "computed_upper": (
        "int64[2] square = {3, 3}, int64 one = {1}",
        "o = ConstantOfShape <value = int64[1] {1}> (square) u = Trilu <upper = 1> (o, one)"
        "m = Cast <to = 9> (u)"
        "bias = Where (m, low, zero) scores = Add (product, bias)",
        1,
    ),
    "computed_finite": (
        "int64[2] square = {3, 3}",
        "o = ConstantOfShape <value = int64[1] {1}> (square) l = Trilu <upper = 0> (o) m = Cast <to = 9> (l)"
        "bias = Where (m, zero, two) scores = Add (product, bias)",
        0,
    ),
    "computed_with_diagonal": (
        "int64[2] square = {3, 3}, int64 one = {1}",
        "o = ConstantOfShape <value = int64[1] {1}> (square) l = Trilu <upper = 0> (o, one)"
        "m = Cast <to = 9> (l)"
        "scores = Where (m, product, low)",
        0,
    ),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_masks(name: str) -> None:
    """Exactly the masks that hide later keys become the causal attribute; others stay masks."""
    constants, middle, causal = CAUSAL[name]
    inputs = "float[b, 4, 3, 6] q, float[b, 4, 3, 6] k, float[b, 4, 3, 6] v"
    options = {"inputs": inputs, "constants": f"{CONSTANTS}, {constants}", "outputs": "float[b, 4, 3, 6] y"}
    before, after = (model(PRODUCT + middle + FINISH, **options) for _ in range(2))
    fuse(after)
    assert facts(call(after))["causal"] == causal
    assert len(call(after).inputs) == (3 if causal else 4)
    assert_same(before, after, [random_feeds(before, LENGTHS)])
