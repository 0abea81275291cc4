"""Attention with sinks on ONNX Runtime's CPU kernel of ai.onnx.Attention, which has no input for them.

A sink is one more key whose value is 0. Queries get the sink, divided by the scale, as one more column, in
which that key has 1 and all others 0: its score is the sink, every other score stays what it was, and the
mask, with a column of 0 for the new key, is still one for all layers. No row is without a key then, so rows
that mask all others give 0, as they do by the function. com.microsoft.GroupQueryAttention has an input for
sinks, and was slower at every size that was measured.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.codegen.ort import mask
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.dims import size
from optc.codegen.ort.lowering import lowering, need_kernel, static

FLOAT, BOOL, INT64 = ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT64
_LARGEST = 1e30  # of a sink: times 0 it is 0, and it lies above the lowest float, which masks


@lowering("SinkAttention", "Attention", "attention")
def sink_attention(b: Builder) -> list[ir.Value]:
    """One kernel over [B, N, S, D + 1] and one key more."""
    for name in ("q", "k", "v"):
        if b.dtype(name) != FLOAT:
            raise Refuse(f"{name} is {b.dtype(name).name.lower()}, and only float is known to be as exact")
    scale = float(b.attribute("scale"))
    if np.float32(scale) <= 0:
        raise Refuse("the kernel takes positive scales only")
    need_kernel(b, "Attention", T1=FLOAT, T2=FLOAT)
    mask.check(b)
    heads, width = static(b, "k", 1), static(b, "k", 3)
    logits = _logits(b, scale)
    q, k, v = b.arg("q"), b.arg("k"), b.arg("v")
    inputs = [_wider(b, q, logits), _longer(b, k, heads, width), _padded(b, v, (0, 0, 1, 0))]
    if "mask" in b.args or b.attribute("causal", 0):
        inputs.append(_mask(b, mask.Sequences(q, 2, k, 2)))
    out = b.result()
    b.insert("Attention", inputs, [out], attrs={"scale": scale})
    return [out]


def _logits(b: Builder, scale: float) -> np.ndarray:
    """What a query has in the new column, [B|1, N|1, S|1, 1]."""
    array = match.constant(b.arg("sink"))
    if array is None:
        raise Refuse("the sink is not a constant, and could be infinite")
    column = array.astype(np.float64) / scale
    if not (np.abs(column) <= _LARGEST).all() or not (np.abs(array) <= _LARGEST).all():
        raise Refuse("a sink is infinite, or next to it")
    return column.astype(np.float32).reshape([1] * (4 - array.ndim) + [*array.shape])


def _wider(b: Builder, q: ir.Value, logits: np.ndarray) -> ir.Value:
    """The queries with the sink as their last column."""
    sizes = b.shared(
        "Concat", *(size(b, q, axis) for axis in range(3)), b.ints(1), attrs={"axis": 0}, dtype=INT64
    )
    column = b.op("Expand", b.constant(logits, "sink"), sizes, dtype=FLOAT)
    return b.op("Concat", q, column, attrs={"axis": -1}, dtype=FLOAT)


def _longer(b: Builder, k: ir.Value, heads: int, width: int) -> ir.Value:
    """The keys with 0 as their last column, and one more key that has 1 there and 0 elsewhere."""
    corner = np.zeros((1, 1, 1, width + 1), np.float32)
    corner[..., -1] = 1
    sizes = b.shared("Concat", size(b, k, 0), b.ints(heads, 1, 1), attrs={"axis": 0}, dtype=INT64)
    key = b.shared("Expand", b.constant(corner, "sink_key"), sizes, dtype=FLOAT)
    return b.op("Concat", _padded(b, k, (0, 0, 0, 1)), key, attrs={"axis": 2}, dtype=FLOAT)


def _mask(b: Builder, sequences: mask.Sequences) -> ir.Value:
    """The mask as numbers to add, [B|1, N|1, S, T + 1]; the new key is open to every query."""
    both = mask.joint(b, sequences, bool(b.attribute("causal", 0)))
    return b.shared("Pad", mask.as_bias(b, both, sequences), b.ints(*[0] * 7, 1), dtype=FLOAT)


def _padded(b: Builder, x: ir.Value, more: tuple[int, ...]) -> ir.Value:
    return b.op("Pad", x, b.ints(*[0] * len(more), *more), dtype=FLOAT)
