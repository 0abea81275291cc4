"""Masks and biases that are cut from a table, as long as the sequence."""

from __future__ import annotations

import pytest
from attention_text import CONSTANTS, FINISH, assert_same, fuse, model, random_feeds

FAR = 2**63 - 1


def test_masks_cut_from_a_table_for_as_many_positions() -> None:
    """The slice has at most as many rows as the table, so it is Min(16, s); both kinds of masks together."""
    text = """
        sizes = Shape <start = 2, end = 3> (q) ends = Concat <axis = 0> (sizes, sizes)
        cut = Slice (table, starts, ends, axes)
        kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (q, kt)
        biased = Add (product, cut) scores = Where (mask, biased, lowest)
    """
    options = {
        "inputs": "float[b, 4, s, 6] q, float[b, 4, s, 6] k, float[b, 4, s, 6] v, float[1, 1, 16, 16] table"
        ", bool[b, 1, 1, s] mask",
        "constants": CONSTANTS + ", int64[2] starts = {0, 0}, int64[2] axes = {2, 3}",
    }
    before, after = (model(text + FINISH, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, {"b": 3, "s": s}) for s in (1, 5, 16)])


@pytest.mark.parametrize("width, fused", [(16, 1), (12, 0)])
def test_biases_cut_from_the_end_of_a_table(width: int, fused: int) -> None:
    """MPT has biases for 16 positions, of which the last ``s`` are for s keys; from 4 on it is not known."""
    text = """
        keys = Shape <start = 2, end = 3> (k) rest = Sub (wide, keys) start = Max (rest, none)
        cut = Slice (table, start, ends, axes)
        kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (q, kt)
        biased = Add (product, cut) scores = Where (mask, biased, lowest)
    """
    options = {
        "inputs": "float[b, 4, s, 6] q, float[b, 4, s, 6] k, float[b, 4, s, 6] v, float[4, 1, 16] table"
        ", bool[b, 1, 1, s] mask",
        "constants": f"{CONSTANTS}, int64[1] wide = {{{width}}}, int64[1] none = {{0}}"
        f", int64[1] ends = {{{FAR}}}, int64[1] axes = {{2}}",
    }
    before, after = (model(text + FINISH, **options) for _ in range(2))
    assert fuse(after).matched.get("attention", 0) == fused
    lengths = (1, 5, 16) if fused else ()
    assert_same(before, after, [random_feeds(before, {"b": 3, "s": s}) for s in lengths])
