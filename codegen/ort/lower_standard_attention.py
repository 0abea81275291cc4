"""Attention on ONNX Runtime's CPU kernel of ai.onnx.Attention.

What the kernel does was found by experiment, on thousands of random cases: without past keys, ``is_causal``
is the causal mask of torch for any two lengths; groups of query heads share keys and values; a softcap comes
before the mask; and a row that masks every key gives 0, where masked means -inf or the lowest float. So
finite numbers of a mask are kept above that lowest one, and a row that may be -inf everywhere must be one
whose function gives 0 too (``safe``). The mask must have the full lengths in its last two dimensions. Empty
batches and sequences are an error to the kernel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc.analysis.bounds import bounds, has_no_masked_row, masked_or_above
from optc.codegen.ort import mask
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import lowering, need_kernel
from optc.codegen.ort.shared_queries import queries

FLOAT, BOOL = ir.DataType.FLOAT, ir.DataType.BOOL
_FLOOR = -1e30  # masks as well as the lowest float does: exp gives 0 either way


@lowering("MultiHeadAttention", "Attention", "attention")
def multi_head_attention(b: Builder) -> list[ir.Value]:
    """One kernel over [B, S, N*D]."""
    n, nk = int(b.attribute("num_heads")), int(b.attribute("kv_num_heads"))
    return _attend(b, mask.Sequences(b.arg("q"), 1, b.arg("k"), 1), q_num_heads=n, kv_num_heads=nk)


@lowering("Attention", "Attention", "attention")
def attention(b: Builder) -> list[ir.Value]:
    """One kernel over [B, N, S, D], without a transpose."""
    return _attend(b, mask.Sequences(b.arg("q"), 2, b.arg("k"), 2))


@lowering("CappedAttention", "Attention", "attention")
def capped_attention(b: Builder) -> list[ir.Value]:
    """The same with scores that are kept below a cap."""
    cap = float(b.attribute("softcap"))
    return _attend(b, mask.Sequences(b.arg("q"), 2, b.arg("k"), 2), softcap=cap)


def _attend(b: Builder, sequences: mask.Sequences, **attributes: float) -> list[ir.Value]:
    for name in ("q", "k", "v"):
        b.shape(name)
        if b.dtype(name) != FLOAT:
            raise Refuse(f"{name} is {b.dtype(name).name.lower()}, and only float is known to be as exact")
    if np.float32(b.attribute("scale")) <= 0:
        raise Refuse("the kernel takes positive scales only")
    need_kernel(b, "Attention", T1=b.dtype("q"), T2=b.dtype("v"))
    mask.check(b)
    _check_rows(b)
    given = b.args.get("mask")
    inputs = [queries(b), b.arg("k"), b.arg("v")]
    if given is not None:
        inputs.append(mask.written_out(b, _kept_apart(b, given), sequences))
    attrs = {"scale": float(b.attribute("scale")), **attributes}
    attrs |= {"is_causal": 1} if b.attribute("causal", 0) else {}
    out = b.result()
    b.insert("Attention", inputs, [out], attrs=attrs)
    return [out]


def _check_rows(b: Builder) -> None:
    """Refuses where a fully masked row would give 0 and the function gives NaN."""
    given = b.args.get("mask")
    if given is None or b.attribute("safe", 0) or bounds(given) is not None:
        return
    if b.attribute("causal", 0) or not has_no_masked_row(given):
        raise Refuse("a row that masks every key gives NaN, and would give 0")


def _kept_apart(b: Builder, given: ir.Value) -> ir.Value:
    """The mask as numbers to add, where finite ones cannot be taken for -inf; made once for all calls."""
    low, shape = b.constant(np.array(-np.inf, np.float32), "float"), given.shape
    if given.dtype == BOOL:
        zero = b.constant(np.array(0, np.float32), "float")
        return b.shared("Where", given, zero, low, dtype=FLOAT, shape=shape)
    if masked_or_above(given, _FLOOR):
        return given
    floor = b.constant(np.array(_FLOOR, np.float32), "float")
    kept = b.shared("Max", given, floor, dtype=FLOAT, shape=shape)
    if bounds(given) is not None:
        return kept
    masked = b.shared("Equal", given, low, dtype=BOOL, shape=shape)
    return b.shared("Where", masked, low, kept, dtype=FLOAT, shape=shape)
