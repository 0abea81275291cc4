"""Attention whose scores are biased by the rows and by the columns of a grid of positions."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from attention_text import assert_same, fuse, model, ops, random_feeds, reasons

CONSTANTS = "int64[{rank}] grid = {{{grid}}}, int64[{flat}] flat = {{{sizes}}}"
FINISH = "scores = Reshape (biased, flat) weights = Softmax <axis = -1> (scores) y = MatMul (weights, v)"
BOTH = "across = Add (square, rows) biased = Add (across, columns)"


def attention(middle: str, lead: tuple[int, ...] = (2, 4), back: str | None = None) -> ir.Model:
    """Queries on a grid of 2 x 3, keys on one of 3 x 2."""
    front = "".join(f"{size}, " for size in lead)
    constants = CONSTANTS.format(
        rank=len(lead) + 4, grid=f"{front}2, 3, 3, 2", flat=len(lead) + 2, sizes=back or f"{front}6, 6"
    )
    text = "kt = Transpose <perm = [{perm}]> (k) product = MatMul (q, kt) square = Reshape (product, grid) "
    perm = ", ".join(map(str, (*range(len(lead)), len(lead) + 1, len(lead))))
    inputs = ", ".join(f"float[{front}6, 8] {name}" for name in "qkv")
    inputs += f", float[{front}2, 3, 3, 1] rows, float[{front}2, 3, 1, 2] columns"
    outputs = f"float[{front}6, 8] y"
    return model(
        text.format(perm=perm) + middle + FINISH, inputs=inputs, outputs=outputs, constants=constants
    )


@pytest.mark.parametrize("lead", [(2, 4), (8,)], ids=str)
def test_biases_per_row_and_column_become_one(lead: tuple[int, ...]) -> None:
    before, after = attention(BOTH, lead), attention(BOTH, lead)
    done = fuse(after)
    assert done.matched["attention"] == 1
    assert [op for op in ops(after) if op not in ("Reshape", "Unsqueeze")][:1] == ["Add"]
    assert not {"Softmax", "MatMul"} & set(ops(after))
    assert_same(before, after, [random_feeds(before, {})])


@pytest.mark.parametrize(
    ("middle", "back", "reason"),
    [
        ("biased = Add (square, rows)", None, "biases per axis leave one out"),
        ("across = Add (square, rows) biased = Mul (across, columns)", None, "the scores are reshaped"),
        (BOTH, "2, 4, 9, 4", "the scores are reshaped"),
    ],
    ids=["one", "factor", "shape"],
)
def test_other_uses_of_a_grid_are_refused(middle: str, back: str | None, reason: str) -> None:
    graph = attention(middle, back=back)
    if back:  # a softmax over other rows
        values = graph.graph.inputs[2]
        values.shape = ir.Shape([2, 4, 4, 8])
        graph.graph.outputs[0].shape = ir.Shape([2, 4, 9, 8])
    done = fuse(graph)
    assert not done.matched
    assert any(found.startswith(reason) for found in reasons(done)), reasons(done)
