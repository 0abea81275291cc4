"""Rotary embeddings on ONNX Runtime's CPU kernel of ai.onnx.RotaryEmbedding.

The kernel wants tables for every batch entry, [B, S, R/2]; those of batch one are repeated, once for all
calls that share them. It turns the first R columns as the function does, in halves or in neighbours.
"""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.dims import known, size
from optc.codegen.ort.lowering import equal_shapes, lowering, need_kernel, static

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64


@lowering("RotaryEmbedding", "RotaryEmbedding", "rotary")
def rotary_embedding(b: Builder) -> list[ir.Value]:
    """One kernel over [B, N, S, D]."""
    _check(b)
    width = int(b.attribute("rotary_dim"))
    whole = width == static(b, "x", 3)
    attrs = {
        "interleaved": int(b.attribute("interleaved", 0)),
        "rotary_embedding_dim": None if whole else width,
    }
    tables = [_for_batch(b, name) for name in ("cos", "sin")]
    out = b.result()
    b.insert("RotaryEmbedding", [b.arg("x"), *tables], [out], attrs=attrs)
    return [out]


def _check(b: Builder) -> None:
    """Refuses what the kernel does not take, or takes for something else."""
    if b.dtype("x") != FLOAT:
        raise Refuse(f"x is {b.dtype('x').name.lower()}, and only float is known to be as exact")
    need_kernel(b, "RotaryEmbedding", T=FLOAT)
    if len(b.shape("x")) != 4:
        raise Refuse(f"x has rank {len(b.shape('x'))}, not 4")
    static(b, "x", 1)  # the kernel reads the number of heads from it
    static(b, "x", 3)
    for name in ("cos", "sin"):
        if b.dtype(name) != FLOAT:
            raise Refuse(f"{name} is {b.dtype(name).name.lower()}, and x is float")
        shape = b.shape(name)
        if len(shape) != 3 or not (shape[0] == 1 or equal_shapes(shape[:1], b.shape("x")[:1])):
            raise Refuse(f"{name} is not known to have the batch of x, or a batch of one")


def _for_batch(b: Builder, name: str) -> ir.Value:
    table, batch = b.arg(name), b.shape("x")[0]
    shape = b.shape(name)
    if equal_shapes(shape[:1], [batch]):
        return table
    count = size(b, b.arg("x"), 0)
    target = b.shared("Concat", count, b.ints(1, 1), attrs={"axis": 0}, dtype=INT64, shape=[3])
    return b.shared("Expand", table, target, shape=[batch if known(batch) else None, *shape[1:]])
