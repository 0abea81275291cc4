"""Constants for translations of operators."""

from __future__ import annotations

from typing import Any

from onnxscript import opset18 as op


def number(value: float, like: Any) -> Any:
    """A scalar of the type that ``like`` has."""
    constant: Any = op.Constant(value_float=value)
    return op.CastLike(constant, like)


def ints(*numbers: int) -> Any:
    """A vector of int64."""
    return op.Constant(value_ints=list(numbers))
