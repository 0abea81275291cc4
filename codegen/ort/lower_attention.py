"""Attention on ONNX Runtime's CPU kernels.

What the kernel of com.microsoft.MultiHeadAttention does was found by experiment: ``unidirectional`` is the
causal mask of torch only when both sequences have the same length, a scale of 0 means the default one, keys
and values may come as [B, N, T, D] when their head sizes agree, and masked rows give NaN as a plain softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc.codegen.ort import mask, projection_bias
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import lowering, need_kernel, static
from optc.codegen.ort.shared_queries import queries
from optc.rewrite import opset

FLOAT = ir.DataType.FLOAT
_BSND_TO_BNSD = [0, 2, 1, 3]  # its own inverse


@dataclass(frozen=True)
class Heads:
    """Counts and sizes of the heads; all known when compiling."""

    query: int  # N
    key: int  # Nk, divides N
    size: int  # D
    value_size: int  # Dv


@lowering("MultiHeadAttention", "MultiHeadAttention", "attention")
def multi_head_attention(b: Builder) -> list[ir.Value]:
    """One kernel over [B, S, N*D]; grouped key and value heads are repeated first."""
    _check(b)
    n, nk = int(b.attribute("num_heads")), int(b.attribute("kv_num_heads"))
    heads = Heads(n, nk, static(b, "k", -1) // nk, static(b, "v", -1) // nk)
    q, k, v = queries(b), b.arg("k"), b.arg("v")
    sequences = mask.Sequences(q, 1, k, 1)
    bias = None
    if nk == n:
        widths = (n * heads.size, n * heads.size, n * heads.value_size)
        (q, k, v), bias = projection_bias.take(b, (q, k, v), widths)
    else:
        k, v = _repeat(b, k, heads, heads.size), _repeat(b, v, heads, heads.value_size)
    result, keep = _attend(b, heads, q, k, v, sequences, bias)
    return [result if keep is None else _clear_rows(b, result, keep, heads)]


@lowering("Attention", "MultiHeadAttention", "attention")
def attention(b: Builder) -> list[ir.Value]:
    """The same kernel for [B, N, S, D]: queries and the result are transposed, keys and values rarely."""
    _check(b)
    heads = Heads(static(b, "q", 1), static(b, "k", 1), static(b, "q", 3), static(b, "v", 3))
    q, k, v = queries(b), b.arg("k"), b.arg("v")
    sequences = mask.Sequences(q, 2, k, 2)
    q = _merge(b, q, heads.query * heads.size)
    if heads.key != heads.query:
        k, v = _merge(b, k, heads.key * heads.size), _merge(b, v, heads.key * heads.value_size)
        k, v = _repeat(b, k, heads, heads.size), _repeat(b, v, heads, heads.value_size)
    elif heads.size != heads.value_size:
        k, v = _merge(b, k, heads.query * heads.size), _merge(b, v, heads.query * heads.value_size)
    merged, keep = _attend(b, heads, q, k, v, sequences)
    split = b.op("Reshape", merged, b.ints(0, 0, heads.query, heads.value_size))
    outputs = [b.result()]
    if keep is None:
        b.insert("Transpose", [split], outputs, attrs={"perm": _BSND_TO_BNSD})
    else:
        b.insert("Mul", [b.op("Transpose", split, attrs={"perm": _BSND_TO_BNSD}), keep], outputs)
    return outputs


def _check(b: Builder) -> None:
    for name in ("q", "k", "v"):
        need_kernel(b, "MultiHeadAttention", contrib=True, T=b.dtype(name))
        b.shape(name)
    mask.check(b)
    if opset(b.model) < 13:
        raise Refuse("written for opset 13 and newer")
    if np.float32(b.attribute("scale")) == 0:
        raise Refuse("the kernel takes a scale of 0 for the default one")


def _attend(
    b: Builder,
    heads: Heads,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    sequences: mask.Sequences,
    projection: ir.Value | None = None,
) -> tuple[ir.Value, ir.Value | None]:
    """The result [B, S, N*Dv], and the factor of its rows, [B|1, N|1, S|1, 1] or less, or None."""
    causal = bool(b.attribute("causal", 0))
    unidirectional = causal and "mask" not in b.args and sequences.same_length()
    bias = None
    if "mask" in b.args or (causal and not unidirectional):
        bias = mask.additive(b, sequences, causal)
    inputs = [q, k, v, projection, None, None if bias is None else bias.bias]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"num_heads": heads.query, "scale": float(b.attribute("scale"))}
    attrs |= {"unidirectional": 1} if unidirectional else {}
    shape = None if q.shape is None else [*q.shape[:2], heads.query * heads.value_size]
    out = b.op("MultiHeadAttention", *inputs, attrs=attrs, shape=shape, contrib=True)
    return out, None if bias is None else bias.keep


def _clear_rows(b: Builder, result: ir.Value, keep: ir.Value, heads: Heads) -> ir.Value:
    """[B, S, N*Dv] times a factor per row; where the factor depends on the head, heads are split for it."""
    rank = len(keep.shape) if keep.shape is not None else 4
    out = b.result()
    if rank < 3 or keep.shape is None or keep.shape[rank - 3] == 1:
        factor = keep
        if rank == 4:
            dims = [keep.shape[0], keep.shape[2], 1] if keep.shape is not None else None
            factor = b.shared("Squeeze", keep, b.ints(1), dtype=FLOAT, shape=dims)
        b.insert("Mul", [result, factor], [out])
        return out
    order = [0, 2, 1, 3] if rank == 4 else [1, 0, 2]
    factor = b.shared("Transpose", keep, attrs={"perm": order}, dtype=FLOAT)
    split = b.op("Reshape", result, b.ints(0, 0, heads.query, heads.value_size))
    b.insert("Reshape", [b.op("Mul", split, factor), b.ints(0, 0, heads.query * heads.value_size)], [out])
    return out


def _merge(b: Builder, value: ir.Value, width: int) -> ir.Value:
    """[B, N, S, D] as [B, S, N*D]."""
    assert value.shape is not None
    shape = [value.shape[0], value.shape[2], width]
    swapped = b.shared("Transpose", value, attrs={"perm": _BSND_TO_BNSD}, dtype=value.dtype)
    return b.shared("Reshape", swapped, b.ints(0, 0, width), dtype=value.dtype, shape=shape)


def _repeat(b: Builder, value: ir.Value, heads: Heads, size: int) -> ir.Value:
    """Every key or value head of [B, T, Nk*D] as often as there are queries for it: [B, T, N*D]."""
    assert value.shape is not None
    group = heads.query // heads.key
    split = b.shared("Reshape", value, b.ints(0, 0, heads.key, 1, size), dtype=value.dtype)
    spread = b.shared("Expand", split, b.ints(1, 1, 1, group, 1), dtype=value.dtype)
    shape = [*value.shape[:2], heads.query * size]
    return b.shared("Reshape", spread, b.ints(0, 0, heads.query * size), dtype=value.dtype, shape=shape)
