"""Which shapes are measured, and feeds of those shapes."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from optc.gate.shapes import AS_GIVEN, RANGES, feeds_by_shape

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def tokens(ranges: dict[str, list[int | None]] | None = None) -> ir.Model:
    text = "g (int64[batch,seq] ids, int64[batch,seq] mask) => (int64[batch,seq] y) { y = Add(ids, mask) }"
    model = ir.from_onnx_text(HEADER + text)
    if ranges is not None:
        model.metadata_props[RANGES] = json.dumps(ranges)
    return model


def example(batch: int, seq: int) -> dict[str, np.ndarray]:
    ids = np.arange(batch * seq).reshape(batch, seq)
    return {"ids": ids, "mask": np.ones_like(ids)}


def test_small_single_larger_single_and_batch() -> None:
    feeds = feeds_by_shape(tokens(), example(2, 16))
    assert list(feeds) == ["batch=1 seq=16", "batch=1 seq=128", "batch=8 seq=128"]
    assert feeds["batch=8 seq=128"]["ids"].shape == feeds["batch=8 seq=128"]["mask"].shape == (8, 128)


def test_values_are_those_of_the_example() -> None:
    feeds = feeds_by_shape(tokens(), example(2, 16))
    assert set(feeds["batch=8 seq=128"]["ids"].ravel()) == set(range(32))  # no made-up token


def test_ranges_are_respected() -> None:
    feeds = feeds_by_shape(tokens({"batch": [3, 4], "seq": [0, 64]}), example(3, 16))
    assert list(feeds) == ["batch=3 seq=16", "batch=3 seq=64", "batch=4 seq=64"]


def test_the_lower_bound_that_torch_export_always_gives_is_not_believed() -> None:
    feeds = feeds_by_shape(tokens({"batch": [2, None], "seq": [2, 64]}), example(2, 16))
    assert list(feeds) == ["batch=1 seq=16", "batch=1 seq=64", "batch=8 seq=64"]


def test_an_example_that_is_already_long_or_large() -> None:
    assert list(feeds_by_shape(tokens(), example(1, 384))) == ["batch=1 seq=384", "batch=8 seq=384"]
    assert "batch=32 seq=128" in feeds_by_shape(tokens(), example(32, 8))


def test_shapes_of_the_user() -> None:
    feeds = feeds_by_shape(tokens(), example(2, 16), [{"seq": 5}, {"batch": 3, "seq": 7}])
    assert [found["ids"].shape for found in feeds.values()] == [(2, 5), (3, 7)]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3] x) => (float[2,3] y) { y = Abs(x) }",
        "g (seq(float[n]) x) => (int64 y) { y = SequenceLength(x) }",
        "g (float x) => (float y) { y = Abs(x) }",
    ],
)
def test_without_dynamic_dims_the_example_is_all(text: str) -> None:
    model = ir.from_onnx_text(HEADER + text)
    value = [np.ones(3, np.float32)] if "seq(" in text else np.ones((2, 3), np.float32)
    assert list(feeds_by_shape(model, {"x": value})) == [AS_GIVEN]


def test_a_dim_without_elements_and_an_absent_optional() -> None:
    model = tokens()
    feeds = feeds_by_shape(model, {"ids": np.zeros((0, 4), np.int64), "mask": None})
    assert all(found["ids"].shape[0] == 0 and found["mask"] is None for found in feeds.values())
