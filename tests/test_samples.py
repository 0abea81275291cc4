"""Random sample inputs fit the model, are the same every time, and let it run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.capture.samples import random_feeds
from optc.errors import UserError

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def feeds(text: str, seed: int = 0) -> dict[str, np.ndarray]:
    model = ir.from_onnx_text(HEAD + text)
    shapes.infer(model)
    [made], note = random_feeds(model, seed)
    assert note == f"random, seed {seed}"
    return made


def test_same_name_same_extent() -> None:
    model = ir.from_onnx_text(
        HEAD + "g (float[batch,seq] a, float[batch,3] b, float[seq] c, float[3] d) => (y) { y = Identity(d) }"
    )
    model.graph.inputs[2].shape = ir.Shape(["seq + 2"])
    [made], _ = random_feeds(model, 0)
    assert [made[name].shape for name in "abcd"] == [(2, 8), (2, 3), (10,), (3,)]
    assert all(array.dtype == np.float32 for array in made.values())


def test_same_seed_same_values() -> None:
    text = "g (float[N,4] a) => (y) { y = Identity(a) }"
    np.testing.assert_array_equal(feeds(text, 3)["a"], feeds(text, 3)["a"])
    assert (feeds(text, 3)["a"] != feeds(text, 4)["a"]).any()


def test_indices_stay_inside_what_they_look_up() -> None:
    made = feeds(
        """g (int64[N,50] ids, int64[N,50] mask) => (y) <float[7,4] table> {
            i = Cast<to = 6>(ids)  e = Gather(table, i)  m = Cast<to = 1>(mask)  y = Identity(e)
        }"""
    )
    assert made["ids"].min() >= 0 and made["ids"].max() < 7 and len(np.unique(made["ids"])) > 2
    assert (made["mask"] == 1).all()


def test_image_is_large_enough_for_its_convolutions() -> None:
    made = feeds(
        """g (float[N,1,H,W] x) => (y) <float[1,1,9,9] w> {
            a = Conv<strides = [2, 2]>(x, w)  y = Conv<strides = [2, 2]>(a, w)
        }"""
    )
    assert made["x"].shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("bool", np.bool_),
        ("int8", np.int8),
        ("uint64", np.uint64),
        ("float16", np.float16),
        ("double", np.float64),
    ],
)
def test_dtypes(declared: str, kind: type) -> None:
    assert feeds(f"g ({declared}[3] x) => (y) {{ y = Identity(x) }}")["x"].dtype == kind


def test_strings_sequences_and_optionals() -> None:
    made = feeds(
        """g (string[4] s, seq(float[2]) many, optional(float[2]) maybe) => (y) { y = Identity(s) }"""
    )
    assert made["s"].dtype == object and isinstance(made["s"][0], str)
    assert isinstance(made["many"], list) and {item.dtype for item in made["many"]} == {np.dtype(np.float32)}
    assert made["maybe"].shape == (2,)


def test_input_with_a_default_is_left_to_it() -> None:
    model = ir.from_onnx_text(HEAD + "g (float[2] x, float[2] w) => (y) { y = Add(x, w) }")
    default = model.graph.inputs[1]
    default.const_value = ir.tensor(np.ones(2, np.float32), name="w")
    model.graph.register_initializer(default)
    assert list(random_feeds(model, 0)[0][0]) == ["x"]


def test_inputs_larger_than_the_memory_are_refused() -> None:
    """A declared shape costs nothing to write down."""
    with pytest.raises(UserError, match="1,000,000,000,000,000 elements"):
        feeds("g (float[100000000,10000000] x) => (y) { y = Relu(x) }")
