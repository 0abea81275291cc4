"""The biases of the projections before attention, for the kernel that adds them while it splits heads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc.codegen.ort.build import Builder
from optc.match import constant, has_one_reader, operands, producer

Three = tuple[ir.Value, ir.Value, ir.Value]


def take(b: Builder, values: Three, widths: tuple[int, int, int]) -> tuple[Three, ir.Value | None]:
    """Query, key and value without the biases that were added to them, and those biases side by side.

    A bias is taken where it is a constant, one number per feature, and nobody else reads the sum. Where there
    is none, zeros stand in; where there is none at all, the values come back as they are, and None.
    """
    q, k, v = (_peel(value, width) for value, width in zip(values, widths, strict=True))
    if all(bias is None for _, bias in (q, k, v)):
        return values, None
    dtype = next(bias.dtype for _, bias in (q, k, v) if bias is not None)
    parts = [
        np.zeros(width, dtype) if bias is None else bias
        for (_, bias), width in zip((q, k, v), widths, strict=True)
    ]
    return (q[0], k[0], v[0]), b.constant(np.concatenate(parts), "projection_bias")


def _peel(value: ir.Value, width: int) -> tuple[ir.Value, np.ndarray | None]:
    add = producer(value, "Add")
    if add is None or not has_one_reader(value):
        return value, None
    for product, bias in operands(add):
        if producer(product, "MatMul") is None or bias.shape is None or list(bias.shape) != [width]:
            continue
        array = constant(bias)
        if array is not None:
            product.shape = product.shape if product.shape is not None else value.shape
            product.type = product.type or value.type
            return product, array
    return value, None
