"""Dropout between scores and values: only one that is known to do nothing may be left out."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from attention_text import assert_same, fuse, model, random_feeds

PRODUCTS = """
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    scores = MatMul (q, kt)
    probabilities = Softmax <axis = -1> (scores)
    weights = Dropout (probabilities%s)
    y = MatMul (weights, v)
"""
CONSTANTS = "float ratio = {0.5}, bool off = {0}, bool on = {1}"


def attention(arguments: str, inputs: str = "") -> ir.Model:
    heads = "float[b, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v"
    return model(PRODUCTS % arguments, inputs=heads + inputs, constants=CONSTANTS)


@pytest.mark.parametrize("arguments", ["", ", ratio", ", ratio, off", ", , off"])
def test_dropout_of_inference_is_no_obstacle(arguments: str) -> None:
    before, after = attention(arguments), attention(arguments)
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, {"b": 2, "s": 3, "t": 5})])


@pytest.mark.parametrize("arguments", [", ratio, on", ", ratio, training"])
def test_dropout_that_may_drop_stays(arguments: str) -> None:
    after = attention(arguments, ", bool training")
    assert not fuse(after).matched["attention"]
