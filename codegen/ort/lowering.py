"""How a lowering is written: a function of a Builder that inserts nodes, or raises Refuse before it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.kernels import CONTRIB, has_kernel
from optc.rewrite import opset
from optc.target import Lowering

Lower = Callable[[Builder], list[ir.Value]]


def lowering(kind: str, name: str, family: str) -> Callable[[Lower], Lowering]:
    """Makes a target's Lowering of a function ``Builder -> new outputs``.

    The function raises Refuse with the reason when it cannot take a call; until then it must not insert
    anything.
    """

    def wrap(function: Lower) -> Lowering:
        @wraps(function)
        def lower(call: ir.Node, body: ir.Function, model: ir.Model) -> list[ir.Value] | str:
            builder = Builder(call, body, model)
            try:
                return function(builder)
            except Refuse as refusal:
                if builder.inserted:
                    raise AssertionError(
                        f"{name} refused a call after inserting nodes: {refusal}"
                    ) from refusal
                return str(refusal)

        return Lowering(kind, name, family, lower)

    return wrap


def need_kernel(b: Builder, op: str, *, contrib: bool = False, **dtypes: ir.DataType) -> None:
    """Refuses when the installed runtime has no CPU kernel of the operator for these element types."""
    domain, version = (CONTRIB, 1) if contrib else ("", opset(b.model))
    if has_kernel(domain, op, version, dtypes):
        return
    types = ", ".join(str(t.name).lower() for t in dtypes.values())
    raise Refuse(
        f"ONNX Runtime has no CPU kernel of {domain or 'ai.onnx'}.{op} for {types} at opset {version}"
    )


def static(b: Builder, name: str, axis: int) -> int:
    """A dimension of an input that must be a number when compiling."""
    shape = b.shape(name)
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if not isinstance(size, int):
        raise Refuse(f"dimension {axis} of {name} is not known when compiling")
    return size


def equal_shapes(a: Sequence[object] | ir.Shape, b: Sequence[object] | ir.Shape) -> bool:
    """Whether two shapes are known to be equal: the same numbers and named dimensions."""
    if len(a) != len(b):
        return False
    return all(_known_equal(x, y) for x, y in zip(a, b, strict=True))


def _known_equal(x: object, y: object) -> bool:
    if isinstance(x, ir.SymbolicDim) and x.value is None:
        return False
    return bool(x == y)
