"""Sizes that are only known when the program runs, as values of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.codegen.ort.build import Builder
from optc.rewrite import opset

INT64 = ir.DataType.INT64
Dim = int | ir.SymbolicDim | None


def known(dim: object) -> bool:
    """Whether a dimension is a number or has a name."""
    return isinstance(dim, int) or (isinstance(dim, ir.SymbolicDim) and dim.value is not None)


def size(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """A 1-D int64 value of one element: the size of ``value`` along ``axis``.

    A named dimension is read from the graph input that declares it, so that all calls share the node.
    """
    dim = value.shape[axis] if value.shape is not None else None
    if isinstance(dim, int):
        return b.ints(dim)
    source = _declared(b, dim) if known(dim) else None
    value, axis = source or (value, axis % len(value.shape) if value.shape is not None else axis)
    if opset(b.model) >= 15:
        return b.shared("Shape", value, attrs={"start": axis, "end": axis + 1}, dtype=INT64, shape=[1])
    rank = len(value.shape) if value.shape is not None else None
    sizes = b.shared("Shape", value, dtype=INT64, shape=[rank])
    return b.shared("Slice", sizes, b.ints(axis), b.ints(axis + 1), dtype=INT64, shape=[1])


def reduce_max(b: Builder, value: ir.Value, shape: Sequence[object]) -> ir.Value:
    """The maximum over the last axis, which is kept with length 1."""
    if opset(b.model) >= 18:
        return b.shared("ReduceMax", value, b.ints(-1), attrs={"keepdims": 1}, shape=shape)
    return b.shared("ReduceMax", value, attrs={"axes": [-1], "keepdims": 1}, shape=shape)


def _declared(b: Builder, dim: Dim) -> tuple[ir.Value, int] | None:
    if b.graph is not b.model.graph:
        return None  # a subgraph may see other values under the same name
    for value in b.graph.inputs:
        for axis, other in enumerate(value.shape or ()):
            if other == dim and value.type is not None and isinstance(value.type, ir.TensorType):
                return value, axis
    return None
