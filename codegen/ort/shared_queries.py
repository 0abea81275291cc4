"""Queries that all of the batch has in common, as learned ones are: the kernels want them repeated."""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder
from optc.codegen.ort.dims import size

INT64 = ir.DataType.INT64


def queries(b: Builder) -> ir.Value:
    """The queries of an attention call, of the same batch as its keys."""
    q, k = b.arg("q"), b.arg("k")
    if b.shape("q")[0] != 1 or b.shape("k")[0] == 1:
        return q
    batch, rest = b.shape("k")[0], [*b.shape("q")[1:]]
    rank = len(rest) + 1
    if isinstance(batch, int):
        target = b.ints(batch, *[1] * len(rest))
    else:
        ones = b.ints(*[1] * len(rest))
        target = b.shared("Concat", size(b, k, 0), ones, attrs={"axis": 0}, dtype=INT64, shape=[rank])
    return b.shared("Expand", q, target, dtype=q.dtype, shape=[batch, *rest])
