"""Dropout between scores and values: only one that is known to do nothing may be left out."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from attention_text import assert_same, fuse, model, random_feeds

AROUND = {
    "of scores": "raw = MatMul (q, kt) scores = Dropout (raw%s) weights = Softmax <axis = -1> (scores)",
    "of weights": "scores = MatMul (q, kt) w = Softmax <axis = -1> (scores) weights = Dropout (w%s)",
}
CONSTANTS = "float ratio = {0.5}, bool off = {0}, bool on = {1}"


def attention(place: str, arguments: str, inputs: str = "") -> ir.Model:
    heads = "float[b, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v"
    body = f"kt = Transpose <perm = [0, 1, 3, 2]> (k) {AROUND[place] % arguments} y = MatMul (weights, v)"
    return model(body, inputs=heads + inputs, constants=CONSTANTS)


@pytest.mark.parametrize("place", AROUND)
@pytest.mark.parametrize("arguments", ["", ", ratio", ", ratio, off", ", , off"])
def test_dropout_of_inference_is_no_obstacle(place: str, arguments: str) -> None:
    before, after = attention(place, arguments), attention(place, arguments)
    assert fuse(after).matched["attention"] == 1
    assert_same(before, after, [random_feeds(before, {"b": 2, "s": 3, "t": 5})])


@pytest.mark.parametrize("place", AROUND)
@pytest.mark.parametrize("arguments", [", ratio, on", ", ratio, training"])
def test_dropout_that_may_drop_stays(place: str, arguments: str) -> None:
    after = attention(place, arguments, ", bool training")
    assert not fuse(after).matched["attention"]
