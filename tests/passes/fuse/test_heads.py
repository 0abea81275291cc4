"""The split and the merge of heads are folded into attention exactly when they are what they look like."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from attention_text import (
    MERGE,
    SPLIT,
    assert_same,
    call,
    facts,
    fuse,
    model,
    ops,
    random_feeds,
    reasons,
    whole,
)

from optc import oracle
from optc.passes.fuse import _bodies, _layout
from optc.rewrite import Match, outline

SIZES = {"b": 3, "s": 5, "t": 7}
PLAIN = """
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    product = MatMul (q, kt)
    scaled = Mul (product, scale)
    weights = Softmax <axis = -1> (scaled)
    attended = MatMul (weights, v)
"""
SCALE = "float scale = {0.4}"


def test_split_and_merge_are_folded_in() -> None:
    """Reshape and Transpose on both sides become one call on [batch, length, width]."""
    before, after = (whole(PLAIN, constants=SCALE) for _ in range(2))
    done = fuse(after)
    assert done.matched == {"attention": 1, "heads": 1}
    assert ops(after) == ["MultiHeadAttention"]
    assert [value.name for value in call(after).inputs] == ["q_in", "k_in", "v_in"]
    assert facts(call(after)) == {"num_heads": 4, "kv_num_heads": 4, "scale": 0.4, "causal": 0, "safe": 0}
    assert_same(before, after, [random_feeds(before, SIZES), random_feeds(before, {"b": 0, "s": 5, "t": 7})])


def test_the_mask_stays_as_it_is() -> None:
    """A mask of [batch, 1, 1, keys] is passed on, a fully masked row gives NaN as before."""
    body = PLAIN.replace("Softmax <axis = -1> (scaled)", "Softmax <axis = -1> (masked)").replace(
        "    weights", "    masked = Where (mask, scaled, low)\n    weights"
    )
    options = {"constants": SCALE + ", float low = {-inf}", "extra": ", bool[b, 1, 1, t] mask"}
    before, after = (whole(body, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["MultiHeadAttention"]
    feeds = random_feeds(before, SIZES)
    assert np.isnan(oracle.run(before, feeds)["y"]).any()
    assert_same(before, after, [feeds])


@pytest.mark.parametrize(
    ("attention", "scale"),
    [(PLAIN, 0.16), (PLAIN.replace("Mul (product, scale)", "Identity (product)"), 0.4)],
    ids=["beside another", "alone"],
)
def test_a_scale_before_the_split_is_taken_in(attention: str, scale: float) -> None:
    """Scaled projections, as in `q_proj(x) * scaling`."""
    split = SPLIT.format("q").replace("(q_in, split)", "(q_scaled, split)")
    text = "q_scaled = Mul (q_in, scale)" + split + SPLIT.format("k") + SPLIT.format("v") + attention + MERGE
    inputs = "float[b, s, 24] q_in, float[b, t, 24] k_in, float[b, t, 24] v_in"
    constants = "int64[4] split = {0, 0, 4, 6}, int64[3] merge = {0, 0, 24}, " + SCALE
    options = {"inputs": inputs, "outputs": "float[b, s, 24] y", "constants": constants}
    before, after = (model(text, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["MultiHeadAttention"]
    assert facts(call(after))["scale"] == pytest.approx(scale)
    assert_same(before, after, [random_feeds(before, SIZES)])


def test_a_scale_of_the_values_stays() -> None:
    """Values have no scale in the call: theirs is applied before it."""
    split = SPLIT.format("v").replace("(v_in, split)", "(v_scaled, split)")
    text = "v_scaled = Mul (v_in, scale)" + SPLIT.format("q") + SPLIT.format("k") + split + PLAIN + MERGE
    inputs = "float[b, s, 24] q_in, float[b, t, 24] k_in, float[b, t, 24] v_in"
    constants = "int64[4] split = {0, 0, 4, 6}, int64[3] merge = {0, 0, 24}, " + SCALE
    options = {"inputs": inputs, "outputs": "float[b, s, 24] y", "constants": constants}
    before, after = (model(text, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["Mul", "MultiHeadAttention"]
    assert_same(before, after, [random_feeds(before, SIZES)])


REGROUPED = [
    ([4, 6], [24], [2]),
    ([2, 4, 6], [8, 6], [2, 1]),
    ([2, 4, 6], [2, 24], [1, 2]),
    (["b", 4, 6], ["b", 24], [1, 2]),
    (["b", 4, "s", 6], ["x", "s", 6], [2, 1, 1]),
    ([4, 6], [3, 8], None),
    ([4, 6], [8, 3], None),
    (["b", 4, "s", 6], ["x", "z", 6], None),
    (["b", "s"], ["x", "z"], None),
    ([1, 1], ["x", "z"], None),
    ([1, 1], [], []),
]


@pytest.mark.parametrize(("atoms", "sizes", "groups"), REGROUPED)
def test_atoms_are_regrouped_only_where_that_is_certain(
    atoms: list, sizes: list, groups: list | None
) -> None:
    """Axes that cut through an atom, or several of unknown size, have no answer."""
    dims = [each if isinstance(each, int) else ir.SymbolicDim(each) for each in atoms]
    wanted = [each if isinstance(each, int) else ir.SymbolicDim(each) for each in sizes]
    found = _layout.regroup([_layout.Atom(str(i), each) for i, each in enumerate(dims)], wanted)
    assert (None if found is None else [len(group) for group in found]) == groups


PACKED = {
    "gather": """
        q = Gather <axis = 0> (joint, zero) k = Gather <axis = 0> (joint, one)
        v = Gather <axis = 0> (joint, two)
    """,
    "negative gather": """
        q = Gather <axis = 0> (joint, zero) k = Gather <axis = 0> (joint, one)
        v = Gather <axis = 0> (joint, last)
    """,
    "split": """
        q5, k5, v5 = Split <axis = 0> (joint, thirds)
        q = Squeeze (q5, axis) k = Squeeze (k5, axis) v = Squeeze (v5, axis)
    """,
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_projections_are_cut_by_columns(name: str) -> None:
    """A [3, batch, heads, length, size] transpose of one projection becomes three column ranges of it."""
    text = """
        parts = Reshape (x, five)
        joint = Transpose <perm = [2, 0, 3, 1, 4]> (parts)
    """
    constants = (
        "int64[5] five = {0, 0, 3, 4, 6}, int64[3] merge = {0, 0, 24}, int64 zero = {0}, int64 one = {1}, "
    )
    constants += (
        "int64 two = {2}, int64 last = {-1}, int64[3] thirds = {1, 1, 1}, int64[1] axis = {0}, " + SCALE
    )
    options = {"inputs": "float[b, s, 72] x", "outputs": "float[b, s, 24] y", "constants": constants}
    before, after = (model(text + PACKED[name] + PLAIN + MERGE, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["Slice", "Slice", "Slice", "MultiHeadAttention"]
    assert_same(before, after, [random_feeds(before, SIZES)])


def test_length_first_operands_are_transposed() -> None:
    """Sequences as [length, batch, width] get Transposes around a call that wants the batch first."""
    split = (
        "{0}3 = Reshape ({0}_in, joint) {0}h = Transpose <perm = [1, 0, 2]> ({0}3) {0} = Reshape ({0}h, four)"
    )
    text = "".join(split.format(name) for name in "qkv") + PLAIN
    text += "m = Transpose <perm = [2, 0, 1, 3]> (attended) y = Reshape (m, flat)"
    inputs = "float[5, 2, 24] q_in, float[5, 2, 24] k_in, float[5, 2, 24] v_in"
    constants = "int64[3] joint = {5, 8, 6}, int64[4] four = {2, 4, 5, 6}, int64[2] flat = {10, 24}, " + SCALE
    options = {"inputs": inputs, "outputs": "float[10, 24] y", "constants": constants}
    before, after = (model(text, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == [*["Transpose"] * 3, "MultiHeadAttention", "Transpose", "Reshape"]
    assert_same(before, after, [random_feeds(before, {})])


def test_attention_on_three_axes_is_attention_of_one_head() -> None:
    """[batch, length, size] without heads, with a mask of three axes."""
    text = """
        kt = Transpose <perm = [0, 2, 1]> (k) product = MatMul (q, kt) scores = Where (mask, product, low)
        weights = Softmax (scores) y = MatMul (weights, v)
    """
    inputs = "float[b, s, 6] q, float[b, t, 6] k, float[b, t, 8] v, bool[b, 1, t] mask"
    options = {"inputs": inputs, "outputs": "float[b, s, 8] y", "constants": "float low = {-inf}"}
    before, after = (model(text, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["Unsqueeze", "MultiHeadAttention"]
    assert facts(call(after))["num_heads"] == 1
    assert_same(before, after, [random_feeds(before, SIZES)])


def test_heads_side_by_side_with_the_batch() -> None:
    """[batch * heads, length, size] with masks in four axes is seen through to its heads."""
    split = SPLIT + "{0}3 = Reshape ({0}, three)"
    text = "".join(split.format(name) for name in "qkv")
    text += """
        kt = Transpose <perm = [0, 2, 1]> (k3) product = MatMul (q3, kt)
        four = Reshape (product, scores4) masked = Add (four, bias) back = Reshape (masked, scores3)
        weights = Softmax (back) result = MatMul (weights, v3) attended = Reshape (result, result4)
    """
    constants = "int64[4] split = {0, 0, 4, 6}, int64[3] merge = {0, 0, 24}, int64[3] three = {-1, 5, 6}, "
    constants += (
        "int64[4] scores4 = {-1, 4, 5, 5}, int64[3] scores3 = {-1, 5, 5}, int64[4] result4 = {-1, 4, 5, 6}"
    )
    inputs = "float[b, 5, 24] q_in, float[b, 5, 24] k_in, float[b, 5, 24] v_in, float[b, 1, 5, 5] bias"
    options = {"inputs": inputs, "outputs": "float[b, 5, 24] y", "constants": constants}
    before, after = (model(text + MERGE, **options) for _ in range(2))
    fuse(after)
    assert ops(after) == ["MultiHeadAttention"]
    assert_same(before, after, [random_feeds(before, SIZES)])


def test_a_mask_per_window_is_repeated_for_the_batch() -> None:
    """[batch * windows, ...] scores with a mask of [1, windows, 1, S, S] added in five axes."""
    text = """
        kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (q, kt)
        five = Reshape (product, shape5) masked = Add (five, mask) scores = Reshape (masked, shape4)
        weights = Softmax (scores) y = MatMul (weights, v)
    """
    constants = "int64[5] shape5 = {-1, 3, 4, 5, 5}, int64[4] shape4 = {-1, 4, 5, 5}"
    inputs = "float[b, 4, 5, 6] q, float[b, 4, 5, 6] k, float[b, 4, 5, 6] v, float[1, 3, 1, 5, 5] mask"
    options = {"inputs": inputs, "outputs": "float[b, 4, 5, 6] y", "constants": constants}
    before, after = (model(text, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert "Tile" in ops(after)
    assert_same(before, after, [random_feeds(before, {"b": size}) for size in (3, 6)])


def test_a_mask_per_batch_and_window_is_refused() -> None:
    """A mask that differs along both axes that the scores have in one is not repeated."""
    text = """
        kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (q, kt)
        five = Reshape (product, shape5) masked = Add (five, mask) scores = Reshape (masked, shape4)
        weights = Softmax (scores) y = MatMul (weights, v)
    """
    constants = "int64[5] shape5 = {2, 3, 4, 5, 5}, int64[4] shape4 = {6, 4, 5, 5}"
    inputs = "float[6, 4, 5, 6] q, float[6, 4, 5, 6] k, float[6, 4, 5, 6] v, float[2, 3, 1, 5, 5] mask"
    graph = model(text, inputs=inputs, outputs="float[6, 4, 5, 6] y", constants=constants)
    assert reasons(fuse(graph)) == ["a mask does not fit the axes of the scores"]


def test_a_result_whose_heads_stay_split_is_reported() -> None:
    """Without a merge the call stays on four axes."""
    graph = model(PLAIN.replace("attended =", "y ="), constants=SCALE)
    assert reasons(fuse(graph), "heads") == ["the heads are not merged by a transpose and a reshape"]
    assert ops(graph) == ["Attention"]


def test_the_form_can_be_read_off_the_function() -> None:
    """`form_of` inverts the body writer for every form."""
    for form in _forms():
        constants = "float scale = {1}"
        graph = model("y = Identity (q)", constants=constants)
        attributes = {"scale": 1.0, "causal": int(form.causal), "safe": int(form.safe)}
        inputs = [*graph.graph.inputs]
        for value in inputs:
            value.dtype = form.kind
        if form.mask is not None:
            inputs.append(ir.Value(name="mask", type=ir.TensorType(form.mask)))
        match = Match("Attention", inputs, [graph.graph.outputs[0]], _bodies.attention(form), attributes)
        node = outline(graph, match)
        assert _bodies.form_of(node, graph.functions[node.op_identifier()], form.opset) == form


def _forms() -> Iterator[_bodies.AttentionForm]:
    full, half, truth = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BOOL
    for mask in (None, full, truth):
        for causal in (False, True):
            for place in ("", "q", "scores"):
                yield _bodies.AttentionForm(20, full, full, place, mask, causal, not causal)
    yield _bodies.AttentionForm(20, full, full, "q", None, False, False, 2, 3)
    for place in ("q", "scores", "inner"):
        yield _bodies.AttentionForm(20, half, full, place, half, False, True)
