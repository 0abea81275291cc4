"""The mask of an attention call as the additive bias that ONNX Runtime's kernels take.

The kernels want ``[B or 1, N or 1, S, T]`` with S and T written out. The nodes that make the bias are shared
by all calls with the same mask. A row that masks every position gives NaN in the kernels as in a plain
softmax; where the function is safe (such a row gives 0), the bias of the row is cleared and the result is
multiplied by 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc.analysis.bounds import has_no_masked_row
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.dims import Dim, known, reduce_max, size
from optc.codegen.ort.lowering import equal_shapes

BOOL, FLOAT, INT64 = ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.INT64


@dataclass(frozen=True)
class Sequences:
    """The values and axes along which the query and key sequences lie."""

    query: ir.Value
    query_axis: int
    key: ir.Value
    key_axis: int

    @property
    def dims(self) -> tuple[Dim, Dim]:
        """The lengths S and T: numbers, named dimensions or None."""
        q, k = self.query.shape, self.key.shape
        return q[self.query_axis] if q is not None else None, k[self.key_axis] if k is not None else None

    def same_length(self) -> bool:
        """Whether S and T are known to be equal."""
        s, t = self.dims
        return known(s) and bool(s == t)


@dataclass(frozen=True)
class Bias:
    """What to add to the scores, and what to multiply rows of the result with, [B|1, N|1, S|1, 1] or None."""

    bias: ir.Value
    keep: ir.Value | None


def check(b: Builder) -> None:
    """Refuses a mask whose type or rank the bias cannot be made of."""
    if "mask" not in b.args:
        return
    if b.dtype("mask") not in (BOOL, FLOAT):
        raise Refuse(f"the mask is {b.dtype('mask').name.lower()}, neither bool nor float")
    if len(b.shape("mask")) > 4:
        raise Refuse(f"the mask has rank {len(b.shape('mask'))}")


def additive(b: Builder, sequences: Sequences, causal: bool) -> Bias:
    """The bias of a call that has a mask, or is causal, or both; ``check`` must have passed."""
    given = b.args.get("mask")
    mask = joint(b, sequences, causal)
    open_rows = given is None or (not causal and has_no_masked_row(given))  # position 0 is never masked
    if open_rows or not b.attribute("safe", 0):
        return Bias(as_bias(b, mask, sequences), None)
    bias = _as_float(b, mask)
    keep = _rows_with_a_key(b, bias)
    cleared = b.shared("Where", keep, bias, _float(b, 0.0), dtype=FLOAT, shape=bias.shape)
    factor = b.shared("Cast", keep, attrs={"to": FLOAT}, dtype=FLOAT, shape=keep.shape)
    return Bias(written_out(b, cleared, sequences), factor)


def joint(b: Builder, sequences: Sequences, causal: bool) -> ir.Value:
    """The mask of a call that has one, or is causal, or both, as bool or as numbers to add."""
    mask = b.args.get("mask")
    if mask is None:
        return _causal(b, sequences)
    return _and_causal(b, mask, sequences) if causal else mask


def as_bias(b: Builder, mask: ir.Value, sequences: Sequences) -> ir.Value:
    """A mask as numbers to add, with its last two dimensions as long as the sequences."""
    return written_out(b, _as_float(b, mask), sequences)


def _as_float(b: Builder, mask: ir.Value) -> ir.Value:
    if mask.dtype != BOOL:
        return mask
    return b.shared("Where", mask, _float(b, 0.0), _float(b, -np.inf), dtype=FLOAT, shape=mask.shape)


def written_out(b: Builder, bias: ir.Value, sequences: Sequences) -> ir.Value:
    """``bias`` with rank 4 and its last two dimensions as long as the sequences."""
    shape, lengths = bias.shape, sequences.dims
    if shape is not None and len(shape) == 4 and equal_shapes(shape[2:], lengths):
        return bias
    target = _target(b, sequences)
    lead: list[Dim] = [None, None]
    if shape is not None:
        lead = [*[1] * (4 - len(shape)), *shape[:-2]]
    return b.shared("Expand", bias, target, shape=ir.Shape([*lead[:2], *lengths]))


def _target(b: Builder, sequences: Sequences) -> ir.Value:
    """[1, 1, S, T] as a value."""
    s, t = sequences.dims
    if isinstance(s, int) and isinstance(t, int):
        return b.ints(1, 1, s, t)
    lengths = (
        size(b, sequences.query, sequences.query_axis),
        size(b, sequences.key, sequences.key_axis),
    )
    return b.shared("Concat", b.ints(1, 1), *lengths, attrs={"axis": 0}, dtype=INT64, shape=[4])


def _causal(b: Builder, sequences: Sequences) -> ir.Value:
    """Bool [S, T]: query i may look at keys 0 to i."""
    zero, one = b.constant(np.array(0, np.int64), "zero"), b.constant(np.array(1, np.int64), "one")
    positions = []
    for value, axis in ((sequences.query, sequences.query_axis), (sequences.key, sequences.key_axis)):
        scalar = b.shared("Squeeze", size(b, value, axis), dtype=INT64, shape=[])
        dim = value.shape[axis] if value.shape is not None else None
        positions.append(b.shared("Range", zero, scalar, one, dtype=INT64, shape=[dim]))
    rows = b.shared("Unsqueeze", positions[0], b.ints(1), dtype=INT64, shape=[sequences.dims[0], 1])
    return b.shared("LessOrEqual", positions[1], rows, dtype=BOOL, shape=ir.Shape(sequences.dims))


def _and_causal(b: Builder, mask: ir.Value, sequences: Sequences) -> ir.Value:
    causal = _causal(b, sequences)
    lead = list(mask.shape[:-2]) if mask.shape is not None else []
    shape = ir.Shape([*lead, *sequences.dims])
    if mask.dtype == BOOL:
        return b.shared("And", mask, causal, dtype=BOOL, shape=shape)
    return b.shared("Add", mask, _as_float(b, causal), dtype=FLOAT, shape=shape)


def _rows_with_a_key(b: Builder, bias: ir.Value) -> ir.Value:
    """Bool [..., S|1, 1]: whether the row leaves any key."""
    assert bias.shape is not None
    shape = [*bias.shape[:-1], 1] if len(bias.shape) else []
    best = bias if not shape else reduce_max(b, bias, shape)
    return b.shared("Greater", best, _float(b, -np.inf), dtype=BOOL, shape=shape)


def _float(b: Builder, number: float) -> ir.Value:
    return b.constant(np.array(number, np.float32), "float")
