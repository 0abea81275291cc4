"""Numbers in a graph: whether one is the constant of a formula, and how to write one into a body."""

from __future__ import annotations

import math

import onnx_ir as ir

from optc.rewrite import NearMiss

# What a constant may be off by, relatively, for one rounding to the type that the model computes in.
_ROUNDING = {
    ir.DataType.DOUBLE: 1e-12,
    ir.DataType.FLOAT: 5e-7,
    ir.DataType.FLOAT16: 2.0**-11 * 1.01,
    ir.DataType.BFLOAT16: 2.0**-8 * 1.01,
}


def is_float(dtype: ir.DataType | None) -> bool:
    """Whether it is a type that the formulas of this folder are computed in."""
    return dtype in _ROUNDING


def close(value: float, expected: float, dtype: ir.DataType | None, roundings: int = 2) -> bool:
    """Whether ``value``, the product of so many rounded constants, is what ``expected`` becomes."""
    tolerance = _ROUNDING.get(dtype, 0.0) if dtype is not None else 0.0
    return math.isclose(value, expected, rel_tol=roundings * tolerance)


def literal(name: str, value: float, dtype: ir.DataType | None) -> str:
    """A line of body text that binds ``name`` to a scalar of ``dtype``.

    The text format has literals for float and double only; the other types are cast when compiling.
    """
    if dtype == ir.DataType.DOUBLE:
        return f"{name} = Constant <value = double {{{value!r}}}> ()"
    if dtype == ir.DataType.FLOAT:
        return f"{name} = Constant <value = float {{{value!r}}}> ()"
    if dtype not in _ROUNDING:
        raise NearMiss(f"its element type {dtype} is not a float type")
    assert dtype is not None
    single = f"{name}_f = Constant <value = float {{{value!r}}}> ()"
    return f"{single}\n{name} = Cast <to = {dtype.value}> ({name}_f)"
