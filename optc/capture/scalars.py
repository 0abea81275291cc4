"""Python's fractions that follow from sizes, or are read out of tensors: they have the digits of double.

The exporter computes them in float32, in which ``int(100 * 0.29)`` is 29 instead of 28. Where one meets a
tensor, it takes the tensor's type, as it does in torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .arithmetic import remainder_of
from .literals import ints

_MARK = "optc.fraction"


@contextmanager
def fractions_in_double() -> Iterator[None]:
    """Within it, values that stand for fractions are declared as what the translations below make them."""
    exporter, declare = _declaring()
    if declare is None:  # another version of torch
        yield
        return

    def declared(value: ir.Value, meta: Any, **rest: Any) -> None:
        declare(value, meta, **rest)
        if isinstance(meta, torch.SymFloat):
            value.dtype = ir.DataType.DOUBLE
            value.meta[_MARK] = True

    exporter._set_shape_type = declared
    try:
        yield
    finally:
        exporter._set_shape_type = declare


@cache
def _declaring() -> tuple[Any, Any]:
    """The module, and its own function, which is put back whatever other threads do meanwhile."""
    from torch.onnx._internal.exporter import _core as exporter

    return exporter, getattr(exporter, "_set_shape_type", None)


def beside_tensors(schema: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of an operator, with fractions in the type of the tensors that they must agree with."""
    kinds = _kinds(schema, len(args))
    tensors: dict[str, Any] = {
        kind: arg
        for kind, arg in zip(kinds, args, strict=True)
        if isinstance(arg, ir.Value) and not is_fraction(arg)
    }
    return tuple(
        op.CastLike(arg, tensors[kind]) if is_fraction(arg) and kind in tensors else arg
        for kind, arg in zip(kinds, args, strict=True)
    )


def keep_mark(schema: Any, args: Sequence[Any], result: Any) -> None:
    """What an operator makes of fractions alone is one too."""
    kinds = _kinds(schema, len(args))
    marked = {kind for kind, arg in zip(kinds, args, strict=True) if is_fraction(arg)}
    if isinstance(result, ir.Value) and schema.outputs[0].type_str in marked:
        result.meta[_MARK] = True


def is_fraction(value: Any) -> bool:
    """Whether a value stands for a number of Python."""
    return isinstance(value, ir.Value) and bool(value.meta.get(_MARK))


def _kinds(schema: Any, count: int) -> list[str]:
    """The type variable of each argument; a variadic input comes last."""
    kinds = [formal.type_str for formal in schema.inputs]
    return (kinds + kinds[-1:] * count)[:count]


def double(value: Any) -> Any:
    """A number, known or not, in double."""
    if isinstance(value, ir.Value):
        given: Any = value
        return op.Cast(given, to=ir.DataType.DOUBLE)
    return op.Constant(value=ir.tensor(float(value), dtype=ir.DataType.DOUBLE))  # type: ignore[arg-type]


def sym_float(self: Any) -> Any:
    """A whole number as a fraction."""
    return double(self)


def true_divide(self: Any, other: Any) -> Any:
    """The quotient of two numbers."""
    return op.Div(double(self), double(other))


def power(self: Any, other: Any) -> Any:
    """Of fractions; the stock translation has a base that is known in float32."""
    if isinstance(self, float) and isinstance(other, ir.Value):
        return op.Pow(double(self), double(other))
    return _core.aten_pow(self, other)


def modulo(self: Any, other: Any) -> Any:
    """The rest with the sign of the divisor, also of fractions."""
    if is_fraction(self) or is_fraction(other):
        return remainder_of(ir.DataType.DOUBLE, double(self), double(other))
    return _core.operator_mod(self, other)


def item(self: Any) -> Any:
    """The number in a tensor of one element."""
    if not self.dtype.is_floating_point():
        return _core.aten__local_scalar_dense(self)
    return double(op.Squeeze(op.Reshape(self, ints(1))))


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.sym_float: sym_float,
    operator.truediv: true_divide,
    operator.pow: power,
    operator.mod: modulo,
    _aten._local_scalar_dense.default: item,
}
