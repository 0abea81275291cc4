"""Values between numpy and ONNX Runtime, for the ONNX types that numpy itself does not have."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from optc.errors import OptcError

# ONNX Runtime's Python binding converts these both ways; every other tensor type goes by raw memory.
_NUMPY_TYPES = frozenset(
    ["float", "double", "float16", "bool", "string"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def has_numpy_type(ort_type: str) -> bool:
    """Whether ONNX Runtime takes and returns values of its type text (``tensor(float)``) as numpy arrays."""
    return set(re.findall(r"tensor\((\w+)\)", ort_type)) <= _NUMPY_TYPES


def to_ortvalue(array: Any, onnx_type: int | str) -> ort.OrtValue:
    """Wraps an array; its memory is shared where contiguous, and copied for types of less than a byte.

    Args:
        onnx_type: a `TensorProto.DataType` number, or ONNX Runtime's text for a type.
    """
    if not isinstance(array, np.ndarray):
        raise OptcError(f"a {type(array).__name__} cannot be fed next to values of a type that numpy lacks")
    dtype = ir.DataType(onnx_type) if isinstance(onnx_type, int) else ir.DataType.from_numpy(array.dtype)
    if dtype.bitwidth < 8:
        return _packed_ortvalue(array, dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), int(dtype))


def to_numpy(value: ort.OrtValue) -> np.ndarray | None:
    """The tensor as an array of its own, with a dtype of `ml_dtypes` where numpy has none."""
    if not value.has_value():
        return None
    if has_numpy_type(value.data_type()):
        return np.asarray(value.numpy())
    dtype = ir.DataType(value.element_type())
    shape = tuple(value.shape())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if dtype.bitwidth >= 8:
        return np.frombuffer(content, dtype=dtype.numpy()).reshape(shape).copy()
    return ir.PackedTensor(np.frombuffer(content, dtype=np.uint8), dtype, shape=ir.Shape(shape)).numpy()


def _packed_ortvalue(array: np.ndarray, dtype: ir.DataType) -> ort.OrtValue:
    content = ir.Tensor(array, dtype=dtype).tobytes()
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), int(dtype))
    ctypes.memmove(value.data_ptr(), content, len(content))
    return value
