"""Attention is found by meaning, computes the same fused, and is refused with a reason where not certain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attention_text import (
    BASE,
    CONSTANTS,
    FINISH,
    LENGTHS,
    MASK,
    PRODUCT,
    assert_same,
    attention,
    call,
    facts,
    fuse,
    model,
    ops,
    random_feeds,
)

# name -> statements between PRODUCT and FINISH, expected facts, expected operators around the call
SCORES = {
    "scaled": ("scores = Mul (product, scale)", {"scale": 0.4}, ["Attention"]),
    "scaled_first": ("scores = Mul (scale, product)", {"scale": 0.4}, ["Attention"]),
    "divided": ("scores = Div (product, two)", {"scale": 0.5}, ["Attention"]),
    "scaled_twice": ("a = Mul (product, scale) scores = Div (a, two)", {"scale": 0.2}, ["Attention"]),
    "computed": ("r = Sqrt (two) scores = Div (product, r)", {"scale": 1 / math.sqrt(2)}, ["Attention"]),
    "unscaled": ("scores = Identity (product)", {"scale": 1.0}, ["Attention"]),
    "kept": ("scores = Where (mask, product, low)", {}, ["Attention"]),
    "dropped": ("scores = Where (mask, low, product)", {}, ["Not", "Attention"]),
    "inverted": ("n = Not (mask) scores = Where (n, low, product)", {}, ["Attention"]),
    "kept_twice": (
        "a = Where (mask, product, low) scores = Where (other, a, low)",
        {},
        ["And", "Attention"],
    ),
    "lowest": ("scores = Where (mask, product, lowest)", {}, ["Where", "Attention"]),
    "added": ("scores = Add (product, bias)", {}, ["Attention"]),
    "added_first": ("scores = Add (bias, product)", {}, ["Attention"]),
    "subtracted": ("scores = Sub (product, bias)", {}, ["Neg", "Attention"]),
    "added_twice": ("a = Add (product, bias) scores = Add (a, bias)", {}, ["Add", "Attention"]),
    "added_then_kept": (
        "a = Add (product, bias) scores = Where (mask, a, low)",
        {},
        ["Where", "Attention"],
    ),
    "kept_then_added": (
        "a = Where (mask, product, low) scores = Add (a, bias)",
        {},
        ["Where", "Attention"],
    ),
    "lowest_then_added": (
        "a = Where (mask, product, lowest) scores = Add (a, bias)",
        {},
        ["Where", "Add", "Attention"],
    ),
    "kept_then_lowest": (
        "a = Where (other, product, low) scores = Where (mask, a, lowest)",
        {},
        ["Where", "Where", "Attention"],
    ),
    "scaled_after_bias": (
        "a = Add (product, bias) scores = Mul (a, scale)",
        {"scale": 0.4},
        ["Mul", "Attention"],
    ),
    "scaled_after_kept": (
        "a = Where (mask, product, low) scores = Mul (a, scale)",
        {"scale": 0.4},
        ["Attention"],
    ),
    "capped": (
        "a = Div (product, two) b = Tanh (a) c = Mul (b, two) scores = Where (mask, c, low)",
        {"softcap": 2.0, "scale": 1.0},
        ["CappedAttention"],
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_steps_between_product_and_softmax(name: str) -> None:
    """Every order of scales and masks gives one scale and one mask of the same effect."""
    middle, expected, around = SCORES[name]
    before, after = attention(middle), attention(middle)
    done = fuse(after)
    assert done.matched["attention"] == 1
    assert ops(after) == around
    found = facts(call(after))
    assert {key: found[key] for key in expected} == {key: round(value, 6) for key, value in expected.items()}
    assert found["safe"] == found["causal"] == 0
    assert_same(
        before, after, [random_feeds(before, LENGTHS), random_feeds(before, {**LENGTHS, "b": 1, "t": 1})]
    )


def test_where_nothing_is_kept_the_higher_fill_wins() -> None:
    """Scores at -1e32 are looked at before those to which the lowest number was added."""
    middle = """deep = Constant <value_float = -1e32> () a = Where (mask, product, deep)
        m = Where (other, zero, lowest) scores = Add (a, m)"""
    before, after = attention(middle), attention(middle)
    assert fuse(after).matched["attention"] == 1
    feeds = random_feeds(before, LENGTHS)
    feeds["mask"][:] = np.arange(7) < 4
    feeds["other"][:] = ~feeds["mask"]
    assert_same(before, after, [feeds])


AFTER = {
    "nan_to_zero": (
        "scores = Where (mask, product, low)",
        "p = Softmax <axis = -1> (scores) n = IsNaN (p) w = Where (n, zero, p) y = MatMul (w, v)",
    ),
    "zero_where_masked": (
        "scores = Where (mask, product, lowest)",
        "p = Softmax <axis = -1> (scores) w = Where (mask, p, zero) y = MatMul (w, v)",
    ),
    "zero_where_inverse_masked": (
        "n = Not (mask) scores = Where (n, lowest, product)",
        "p = Softmax <axis = -1> (scores) w = Where (mask, p, zero) y = MatMul (w, v)",
    ),
    "times_mask": (
        "scores = Where (mask, product, lowest)",
        "p = Softmax <axis = -1> (scores) f = Cast <to = 1> (mask) w = Mul (p, f) y = MatMul (w, v)",
    ),
}


@pytest.mark.parametrize("name", AFTER)
def test_rows_without_keys_give_zero(name: str) -> None:
    """Zeroing rows after the softmax makes the call safe; the first batch row has no key at all."""
    before, after = attention(*AFTER[name]), attention(*AFTER[name])
    assert fuse(after).matched["attention"] == 1
    assert facts(call(after))["safe"] == 1
    assert ops(after) == ["Attention"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


OPERANDS = {
    "scale_on_q": (
        "qs = Mul (q, scale) kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (qs, kt)",
        0.4,
    ),
    "scale_on_k": (
        "ks = Div (k, two) kt = Transpose <perm = [0, 1, 3, 2]> (ks) product = MatMul (q, kt)",
        0.5,
    ),
    "scale_on_kt": (
        "kt = Transpose <perm = [0, 1, 3, 2]> (k) ks = Mul (kt, scale) product = MatMul (q, ks)",
        0.4,
    ),
    "split": (
        "qs = Mul (q, scale) t = Transpose <perm = [0, 1, 3, 2]> (k) ks = Mul (t, scale)"
        "product = MatMul (qs, ks)",
        0.16,
    ),
    "flattened": (
        "shape3 = Constant <value_ints = [-1, 7, 6]> () shape4 = Constant <value_ints = [-1, 4, 6, 7]> ()"
        "flat = Reshape (k, shape3) swapped = Transpose <perm = [0, 2, 1]> (flat)"
        "kt = Reshape (swapped, shape4) product = MatMul (q, kt)",
        1.0,
    ),
    "einsum": ('product = Einsum <equation = "bnsd,bntd->bnst"> (q, k)', 1.0),
    "einsum_swapped": ('product = Einsum <equation = "b n t d, b n s d -> b n s t"> (k, q)', 1.0),
    "einsum_ellipsis": ('product = Einsum <equation = "...sd,...td->...st"> (q, k)', 1.0),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_operands_of_the_score_product(name: str) -> None:
    """Scales on either operand count, and all ways to transpose the keys are undone."""
    product, scale = OPERANDS[name]
    inputs = BASE if name != "flattened" else BASE.replace("t,", "7,")
    text = product + "scores = Identity (product)" + FINISH
    before, after = (model(text, inputs=inputs, constants=CONSTANTS) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert ops(after) == ["Attention"]
    assert facts(call(after))["scale"] == scale
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_keys_that_come_transposed_are_transposed_back() -> None:
    """Keys that nothing transposes in the graph get a Transpose of their own."""
    inputs = "float[b, 4, s, 6] q, float[b, 4, 6, t] kt, float[b, 4, t, 6] v"
    text = "scores = MatMul (q, kt)" + FINISH
    before, after = model(text, inputs=inputs), model(text, inputs=inputs)
    fuse(after)
    assert ops(after) == ["Transpose", "Attention"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_keys_transposed_by_the_default_permutation() -> None:
    """A Transpose without perm reverses all axes, and so has the size of a head before the length."""
    inputs = "float[b, 4, s, 6] q, float[t, 6, 4, b] keys, float[b, 4, t, 6] v"
    text = "kt = Transpose (keys) scores = MatMul (q, kt)" + FINISH
    before, after = (model(text, inputs=inputs) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert ops(after) == ["Transpose", "Attention"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_transposed_keys_that_others_read_stay() -> None:
    """What is only on the way to the product is left in the graph where something else needs it."""
    text = PRODUCT + "scores = Identity (product) extra = Relu (kt)" + FINISH
    outputs = "float[b, 4, s, 6] y, float[b, 4, 6, t] extra"
    before, after = (model(text, outputs=outputs) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert sorted(ops(after)) == ["Attention", "Relu", "Transpose"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_shared_heads() -> None:
    """Key and value heads repeated one by one are passed unrepeated."""
    repeat = """
        {0}5 = Unsqueeze ({0}2, two_axis)
        {0}w = Expand ({0}5, wide)
        {0} = Reshape ({0}w, heads)
    """
    inputs = "float[b, 4, s, 6] q, float[b, 2, 7, 6] k2, float[b, 2, 7, 6] v2"
    constants = "int64[1] two_axis = {2}, int64[5] wide = {1, 1, 2, 1, 1}, int64[4] heads = {0, 4, 7, 6}"
    text = repeat.format("k") + repeat.format("v") + PRODUCT + "scores = Identity (product)" + FINISH
    before, after = (model(text, inputs=inputs, constants=constants) for _ in range(2))
    fuse(after)
    assert ops(after) == ["Attention"]
    assert [value.name for value in call(after).inputs] == ["q", "k2", "v2"]
    assert_same(before, after, [random_feeds(before, LENGTHS)])


@pytest.mark.parametrize(("axes", "shared"), [("{1}", False), ("{2}", True)])
def test_only_neighbouring_heads_are_shared(axes: str, shared: bool) -> None:
    """Heads repeated as a whole sequence (0 1 0 1) are not grouped (0 0 1 1): the repetition stays."""
    wide = "{1, 1, 2, 1, 1}" if shared else "{1, 2, 1, 1, 1}"
    repeat = "{0}5 = Unsqueeze ({0}2, axis) {0}w = Expand ({0}5, wide) {0} = Reshape ({0}w, heads)"
    inputs = "float[b, 4, s, 6] q, float[b, 2, 7, 6] k2, float[b, 2, 7, 6] v2"
    constants = f"int64[1] axis = {axes}, int64[5] wide = {wide}, int64[4] heads = {{0, 4, 7, 6}}"
    text = repeat.format("k") + repeat.format("v") + PRODUCT + "scores = Identity (product)" + FINISH
    before, after = (model(text, inputs=inputs, constants=constants) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert (call(after).inputs[1].name == "k2") == shared
    assert_same(before, after, [random_feeds(before, LENGTHS)])


def test_a_bias_that_contains_a_product_is_a_bias() -> None:
    """Scores that are a sum of two products (disentangled attention): one of them, gathered, is the bias."""
    middle = """
        relative = MatMul (q, table)
        position = GatherElements <axis = -1> (relative, index)
        scores = Add (position, product)
    """
    inputs = BASE + ", float[6, 9] table, int64[b, 4, s, t] index"
    before, after = (model(PRODUCT + middle + FINISH, inputs=inputs) for _ in range(2))
    fuse(after)
    assert ops(after) == ["MatMul", "GatherElements", "Attention"]
    feeds = random_feeds(before, LENGTHS)
    feeds["index"] = abs(feeds["index"]) % 9
    assert_same(before, after, [feeds])


@pytest.mark.parametrize("opset", [13, 14, 15, 18, 21, 23])
def test_bodies_are_valid_at_every_opset(opset: int) -> None:
    """The function body runs at the opset of the model."""
    middle, finish = AFTER["nan_to_zero"]
    before, after = (attention(middle, finish, opset=opset) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, LENGTHS)])


HALF = {
    "softmax_in_float": ("a = Mul (product, scale) scores = Cast <to = 1> (a)", 1),
    "mask_before_cast": ("a = Add (product, bias) scores = Cast <to = 1> (a)", 1),
    "mask_after_cast": ("a = Cast <to = 1> (product) scores = Add (a, wide_bias)", 1),
    "scale_after_cast": ("a = Cast <to = 1> (product) scores = Mul (a, wide_scale)", 1),
    "two_scales": ("a = Mul (product, scale) b = Cast <to = 1> (a) scores = Mul (b, wide_scale)", 0),
    "finite_fill": ("a = Where (mask, product, lowest) scores = Cast <to = 1> (a)", 0),
}


@pytest.mark.parametrize("name", HALF)
def test_half_precision_is_fused_where_the_body_rounds_alike(name: str) -> None:
    """With a softmax in float32, casts, scales and masks keep their places, or the pattern refuses."""
    middle, fused = HALF[name]
    inputs = "float16[b, 4, s, 6] q, float16[b, 4, t, 6] k, float16[b, 4, t, 6] v, bool[b, 1, 1, t] mask"
    inputs += ", float16[1, 4, s, t] bias, float[1, 4, s, t] wide_bias"
    constants = "float wide_scale = {0.4}, float wide_lowest = {-60000}"
    halves = "scale = Cast <to = 10> (wide_scale) lowest = Cast <to = 10> (wide_lowest)"
    finish = "p = Softmax <axis = -1> (scores) w = Cast <to = 10> (p) y = MatMul (w, v)"
    options = {"inputs": inputs, "constants": constants, "outputs": "float16[b, 4, s, 6] y"}
    before, after = (model(PRODUCT + halves + middle + finish, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == fused
    assert_same(before, after, [random_feeds(before, LENGTHS)])


@pytest.mark.parametrize("name", SCORES)
def test_fusing_again_changes_nothing(name: str) -> None:
    """The fused graph holds nothing that the patterns would take for attention."""
    graph = attention(SCORES[name][0])
    fuse(graph)
    before = [node.op_type for node in graph.graph]
    assert not fuse(graph).matched
    assert [node.op_type for node in graph.graph] == before


def test_masks_of_merged_axes_are_split_with_dynamic_sizes() -> None:
    """ALiBi added to [batch * heads, ...] scores, all other sizes dynamic: the shapes come from the mask."""
    text = """
        bias = Reshape (alibi, rows) three = Reshape (q, joint) keys = Reshape (k, joint)
        values = Reshape (v, joint)
        kt = Transpose <perm = [0, 2, 1]> (keys) product = MatMul (three, kt) biased = Add (product, bias)
        four = Reshape (biased, apart) kept = Where (mask, four, lowest) w = Softmax <axis = -1> (kept)
        merged = Reshape (w, scores3) attended = MatMul (merged, values) y = Reshape (attended, back)
    """
    inputs = "float[b, 4, t, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v, float[b, 4, 1, t] alibi" + MASK
    shapes_of = "size = Shape (k) length = Gather (size, second)"
    shapes_of += (
        " joint = Concat <axis = 0> (minus, length, six) rows = Concat <axis = 0> (minus, one, length)"
    )
    shapes_of += " apart = Concat <axis = 0> (minus, heads, length, length)"
    shapes_of += " scores3 = Concat <axis = 0> (minus, length, length)"
    shapes_of += " back = Concat <axis = 0> (minus, heads, length, six)"
    constants = (
        CONSTANTS + ", int64[1] second = {2}, int64[1] minus = {-1}, int64[1] six = {6}, int64[1] one = {1}"
    )
    options = {"inputs": inputs, "outputs": "float[b, 4, t, 6] y"}
    options["constants"] = constants + ", int64[1] heads = {4}"
    before, after = (model(shapes_of + text, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, LENGTHS), random_feeds(before, {"b": 1, "t": 2})])


def test_more_leading_axes_than_two_with_a_dynamic_batch() -> None:
    """Attention inside windows beside heads, [batch, heads, windows, length, size]."""
    text = """
        kt = Transpose <perm = [0, 1, 2, 4, 3]> (k) product = MatMul (q, kt)
        scores = Mul (product, scale)
    """
    inputs = "float[b, 2, 3, s, 6] q, float[b, 2, 3, t, 6] k, float[b, 2, 3, t, 6] v"
    options = {"inputs": inputs, "outputs": "float[b, 2, 3, s, 6] y", "constants": CONSTANTS}
    before, after = (model(text + FINISH, **options) for _ in range(2))
    assert fuse(after).matched["attention"] == 1
    assert_same(
        before, after, [random_feeds(before, LENGTHS), random_feeds(before, {"b": 1, "s": 1, "t": 2})]
    )
