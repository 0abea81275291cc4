"""Constants for translations of operators."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op


def number(value: float, like: Any) -> Any:
    """A scalar of the type that ``like`` has, with all the digits that it holds."""
    constant: Any = op.Constant(value=ir.tensor(float(value), dtype=ir.DataType.DOUBLE))  # type: ignore[arg-type]
    return op.CastLike(constant, like)


def ints(*numbers: int) -> Any:
    """A vector of int64."""
    return op.Constant(value_ints=list(numbers))


def integer(value: int) -> Any:
    """A scalar of int64."""
    return op.Constant(value_int=value)
