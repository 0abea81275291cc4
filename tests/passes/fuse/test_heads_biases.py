"""Biases of keys and values leave attention where, and only where, nothing can tell."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from attention_text import MERGE, SIZES, SPLIT, assert_same, call, fuse, model, ops, random_feeds

LENGTHS = {"b": 3, "s": 5, "t": 7}
PLAIN = """
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    product = MatMul (q, kt)
    scaled = Mul (product, scale)
    weights = Softmax <axis = -1> ({scores})
    attended = MatMul ({weights}, v)
"""
PROJECTED = """
    moved = MatMul (y0, w)
    y = Add (moved, out_bias)
"""


def biased(
    *,
    mask: str = "",
    scores: str = "scaled",
    weights: str = "weights",
    low: float = 0.0,
    after: str = PROJECTED,
) -> ir.Model:
    """Attention with a bias on queries, keys, values and the projection behind it."""
    projections = "".join(f"{x}_in = Add ({x}_0, {x}_bias)" + SPLIT.format(x) for x in "qkv")
    attention = PLAIN.format(scores=scores, weights=weights)
    if weights != "weights":
        attention = attention.replace(
            "    attended", "    nan = IsNaN (weights)\n    kept = Where (nan, zero, weights)\n    attended"
        )
    if mask:
        attention = attention.replace("    weights", f"    {mask}\n    weights", 1)
    text = projections + attention + MERGE.replace("y =", "y0 =") + after
    inputs = ", ".join(f"float[b, {n}, 24] {x}_0" for x, n in zip("qkv", "stt", strict=True))
    inputs += ", bool[b, 1, 1, t] mask, float[b, 1, 1, t] bias"
    made = model(
        text,
        inputs=inputs,
        outputs="float[b, s, 24] y",
        constants=f"{SIZES}, float scale = {{0.4}}, float zero = {{0}}, float low = {{0}}",
    )
    rng = np.random.default_rng(3)
    shapes = {"q_bias": (24,), "k_bias": (24,), "v_bias": (24,), "out_bias": (24,), "w": (24, 24)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["low"] = np.array(low, np.float32)
    for name, array in arrays.items():
        made.graph.initializers.pop(name, None)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        made.graph.register_initializer(value)
        for node in made.graph:
            for i, old in enumerate(node.inputs):
                if old is not None and old.name == name:
                    node.replace_input_with(i, value)
    return made


def fused(**options: object) -> ir.Model:
    """Fused, and the same as before; rows without any key are among the feeds."""
    before, after = (biased(**options) for _ in range(2))
    assert fuse(after).matched == {"attention": 1, "heads": 1}
    assert_same(before, after, [random_feeds(before, LENGTHS)])
    return after


def sources(made: ir.Model) -> list[str]:
    return [str(value.name) for value in call(made).inputs[:3]]


def test_key_bias_cancels_and_value_bias_moves_into_the_projection() -> None:
    made = fused()
    assert sources(made) == ["q_in", "k_0", "v_0"]
    assert ops(made) == ["Add", "MultiHeadAttention", "MatMul", "Add"]


@pytest.mark.parametrize("low", [-np.inf, float(np.finfo(np.float32).min)])
def test_with_masks_that_hide_all(low: float) -> None:
    made = fused(mask="masked = Where (mask, scaled, low)", scores="masked", low=low)
    assert sources(made) == ["q_in", "k_0", "v_0"]


@pytest.mark.parametrize("low", [-1e4, -1e9])
def test_key_bias_stays_where_a_mask_leaves_something_of_the_scores(low: float) -> None:
    mask = "chosen = Where (mask, zero, low)\nmasked = Add (scaled, chosen)"
    assert sources(fused(mask=mask, scores="masked", low=low)) == ["q_in", "k_in", "v_0"]


def test_key_bias_stays_where_nothing_is_known_of_the_mask() -> None:
    assert sources(fused(mask="masked = Add (scaled, bias)", scores="masked")) == ["q_in", "k_in", "v_0"]


def test_value_bias_stays_where_rows_without_keys_give_zero() -> None:
    made = fused(mask="masked = Where (mask, scaled, low)", scores="masked", weights="kept", low=-np.inf)
    assert sources(made) == ["q_in", "k_0", "v_in"]


def test_value_bias_moves_where_a_finite_mask_leaves_every_row_its_sum() -> None:
    lowest = float(np.finfo(np.float32).min)
    mask = "chosen = Where (mask, zero, low)\nmasked = Add (scaled, chosen)"
    assert sources(fused(mask=mask, scores="masked", weights="kept", low=lowest)) == ["q_in", "k_0", "v_0"]


@pytest.mark.parametrize(
    "after", ["y = MatMul (y0, w)", "m = MatMul (y0, w)\na = Add (m, out_bias)\ny = Add (a, y0)"]
)
def test_value_bias_stays_where_nothing_takes_it(after: str) -> None:
    assert sources(fused(after=after)) == ["q_in", "k_0", "v_in"]
