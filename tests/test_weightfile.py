"""Variants of a model share one file of weights, which is gone when nobody can read it any more."""

from __future__ import annotations

import gc
import warnings

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from optc.session import run_session
from optc.weightfile import WeightFile

X = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)


def model(weight: np.ndarray, op: str = "Relu") -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    g (float[2,32] x) => (float[2,n] y) {{ p = MatMul(x, w)  y = {op}(p) }}"""
    made = ir.from_onnx_text(text.replace("g (float[2,32] x)", "g (float[2,32] x, float[32,n] w)"))
    value = made.graph.inputs.pop()
    value.const_value, value.shape = ir.tensor(weight, name="w"), ir.Shape(weight.shape)
    made.graph.register_initializer(value)
    return made


def size(weights: WeightFile) -> int:
    return (weights._scratch.path / "weights").stat().st_size


def test_results_are_those_of_the_model() -> None:
    weight, weights = np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32), WeightFile()
    session = weights.open(weights.detach(model(weight)))
    np.testing.assert_allclose(run_session(session, {"x": X})["y"], np.maximum(X @ weight, 0), atol=1e-5)


def test_a_weight_is_written_once_for_all_variants() -> None:
    weight, weights = np.ones((32, 64), np.float32), WeightFile()
    first = model(weight)
    weights.detach(first)
    before = size(weights)
    assert before == weight.nbytes
    weights.detach(first.clone())
    weights.detach(model(weight.copy(), "Abs"))  # packed anew by a lowering
    assert size(weights) == before
    weights.detach(model(weight * 2))
    assert size(weights) == 2 * weight.nbytes


def test_weights_start_at_pages() -> None:
    weights = WeightFile()
    odd, even = np.ones((32, 33), np.float32), np.full((32, 64), 3, np.float32)
    weights.detach(model(odd))
    session = weights.open(weights.detach(model(even)))
    assert size(weights) == 8192 + even.nbytes  # 4224 bytes and up to the next page
    np.testing.assert_allclose(run_session(session, {"x": X})["y"], np.maximum(X @ even, 0), atol=1e-4)


def test_the_bytes_are_equal_for_equal_programs_only() -> None:
    weights, weight = WeightFile(), np.ones((32, 64), np.float32)
    first = weights.detach(model(weight))
    assert first == weights.detach(model(weight.copy()))
    assert first != weights.detach(model(weight, "Abs")) and first != weights.detach(model(weight * 2))


def test_a_tensor_that_took_the_place_of_another_is_not_taken_for_it() -> None:
    """Objects are known by their address, which is used again once they are gone."""
    weights = WeightFile()
    for number in range(6):
        made = model(np.full((32, 64), number, np.float32))
        y = run_session(weights.open(weights.detach(made)), {"x": X})["y"]
        np.testing.assert_allclose(y, np.maximum(X @ np.full((32, 64), number, np.float32), 0), atol=1e-3)
        del made
        gc.collect()


def test_types_that_numpy_lacks_are_written() -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    g () => (float[n] y) { y = Cast<to=1>(w) }"""
    made = ir.from_onnx_text(text.replace("g ()", "g (bfloat16[n] w)"))
    value = made.graph.inputs.pop()
    value.const_value = ir.tensor(np.arange(1000).astype(ml_dtypes.bfloat16), name="w")
    value.shape = ir.Shape([1000])
    made.graph.register_initializer(value)
    weights = WeightFile()
    y = run_session(weights.open(weights.detach(made)), {})["y"]
    assert size(weights) == 2000 and y[3] == 3


@pytest.mark.parametrize("session_left", [True, False])
def test_the_file_lives_as_long_as_its_sessions(session_left: bool) -> None:
    weights = WeightFile()
    folder = weights._scratch.path
    session = weights.open(weights.detach(model(np.ones((32, 64), np.float32)))) if session_left else None
    del weights
    gc.collect()
    assert folder.exists() == session_left
    del session
    gc.collect()
    assert not folder.exists()


def test_the_file_is_closed_with_it() -> None:
    weights = WeightFile()
    file = weights._file
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del weights
        gc.collect()
        assert file.closed
        del file
        gc.collect()
    assert not [warning for warning in caught if warning.category is ResourceWarning]
