"""Feeds that fit go to the runtime on a glance; what does not fit is refused by name, whoever sees it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from optc.codegen.ort import runtime
from optc.codegen.ort.interface import Input, Interface
from optc.errors import UserError

INTERFACE = Interface(
    [Input("a", "tensor(float)", ("batch", 4)), Input("b", "tensor(int64)", ("batch", "length"))]
)


def feeds(a: tuple[int, ...] = (2, 4), b: tuple[int, ...] = (2, 3)) -> dict[str, np.ndarray]:
    return {"a": np.zeros(a, np.float32), "b": np.zeros(b, np.int64)}


def test_feeds_of_the_right_types_pass_on_a_glance() -> None:
    assert INTERFACE.looks_fit(feeds())


@pytest.mark.parametrize(
    "odd",
    [
        feeds(a=(1, 4)),  # the runtime would broadcast, or read beyond the end
        feeds(b=()),
        {"a": feeds()["a"]},
        {**feeds(), "c": np.zeros(1)},
        {**feeds(), "a": feeds()["a"].astype(np.float64)},
        {**feeds(), "a": feeds()["a"].astype(">f4")},
        {**feeds(), "a": np.zeros((4, 2), np.float32).T},
        {**feeds(), "a": [[0.0] * 4] * 2},
        {"a": feeds()["a"], "c": feeds()["b"]},
    ],
    ids=["sizes", "rank", "missing", "unknown", "type", "byte order", "strides", "list", "name"],
)
def test_odd_feeds_are_looked_at_again(odd: dict[str, np.ndarray]) -> None:
    assert not INTERFACE.looks_fit(odd)


def test_sequences_and_optionals_are_always_looked_at() -> None:
    assert not Interface([Input("s", "seq(tensor(float))", None)]).looks_fit({"s": np.zeros(1, np.float32)})


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> runtime.Program:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[batch, 4] a, float[batch, 4] b) => (float[batch, 4] y) { y = Add(a, b) }"""
    folder: Path = tmp_path_factory.mktemp("program")
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return runtime.load(folder, {"threads": 1})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((3, 5), "size 4 in dimension 1"),  # seen by the runtime, explained by the interface
        ((3,), "of rank 2"),
        ((1, 4), "the same size as"),
    ],
    ids=["fixed", "rank", "named"],
)
def test_what_does_not_fit_is_named(program: runtime.Program, wrong: tuple[int, ...], said: str) -> None:
    given = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(wrong, np.float32)}
    with pytest.raises(UserError, match=said):
        program(given)


def test_arrays_that_are_not_contiguous_are_taken(program: runtime.Program) -> None:
    a = np.arange(12, dtype=np.float32).reshape(4, 3).T
    assert np.array_equal(program({"a": a, "b": a.copy()})["y"], 2 * a)


@pytest.mark.parametrize("dtype", ["U3", "O"])
def test_strings_of_any_numpy_kind_are_strings(dtype: str) -> None:
    words = np.array(["one", "two"], dtype)
    assert Interface([Input("s", "tensor(string)", (2,))]).check({"s": words})["s"].tolist() == ["one", "two"]
    with pytest.raises(UserError, match="convert it"):
        Interface([Input("s", "tensor(float)", (2,))]).check({"s": words})


TYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "bool": np.bool_,
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


@pytest.mark.parametrize("name", TYPES)
def test_each_type_of_the_runtime_takes_its_own_numpy_type(name: str) -> None:
    only = Interface([Input("x", f"tensor({name})", (2,))])
    for other, dtype in TYPES.items():
        value = {"x": np.zeros(2, dtype)}
        assert only.looks_fit(value) == (other == name)
        if other == name:
            assert only.check(value)["x"].dtype == dtype
        else:
            with pytest.raises(UserError, match="convert it to"):
                only.check(value)
