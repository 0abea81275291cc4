"""Half precision for storage: weights are rounded now, and written with a Cast behind them at the end.

In between they are float32 constants, so that whatever rewrites weights (fusions that pack them, quantize)
sees constants; what is written is decided from their values, which a narrower type then holds exactly.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import numpy as np
import onnx_ir as ir

from optc.analysis import shapes
from optc.passbase import Report, Skip
from optc.passes.fuse._bias import biases
from optc.storage import STORAGE, storable
from optc.trail import Trail


def round_weights(
    model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None, trail: Trail | None = None
) -> Report:
    """Rounds the weights of the main graph that ``to`` can hold, and marks the model for storage in it.

    A weight that overflows, or whose rounding loses more than the precision of the type, stays.
    """
    model.metadata_props[STORAGE] = to.name
    if kept is not None:
        shapes.infer(model)  # which tell what is a bias
    done: Counter[str] = Counter()
    skips: list[Skip] = []
    weights = [value for value in model.graph.initializers.values() if storable(value) and value.uses()]
    for value in (trail or Trail()).each("weight rounded", weights, lambda value: value.consumers()[0]):
        name = str(value.name)
        if kept is not None and _is_kept(value, kept):
            skips.append(Skip(name, f"left in float: kept by {kept.pattern!r}"))
            continue
        outcome = _round(value, to)
        if outcome is None:
            done[f"weight stored in {to.name.lower()}"] += 1
        elif outcome:
            skips.append(Skip(name, f"left in float: {outcome}"))
    return Report(bool(done), done, tuple(skips))


def _is_kept(value: ir.Value, kept: re.Pattern[str]) -> bool:
    """By its name, that of a node that reads it, or that of the bias of a product with it."""
    readers = [node for node, _ in value.uses()]
    values = [value, *(bias for node in readers for bias in biases(node))]
    names = [each.name for each in values] + [node.name for node in readers]
    return any(kept.search(str(name)) for name in names)


def _round(value: ir.Value, to: ir.DataType) -> str | None:
    """None where the weight was rounded, "" where it was round already, or a reason why it stays."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    with np.errstate(over="ignore"):
        narrow = array.astype(to.numpy())
    widened = narrow.astype(np.float32)
    if not np.array_equal(np.isfinite(widened), np.isfinite(array)):
        return f"it has values that {to.name.lower()} cannot hold"
    if np.array_equal(widened, array, equal_nan=True):
        return ""
    lost = float(np.linalg.norm(widened - array)) / max(float(np.linalg.norm(array)), 1e-45)
    if not lost <= float(spacing(to)):
        return f"rounding to {to.name.lower()} would change it by {lost:.1e}"
    value.const_value = ir.LazyTensor(
        partial(_widened, narrow), ir.DataType.FLOAT, ir.Shape(array.shape), name=value.name
    )
    return None


def spacing(to: ir.DataType) -> float:
    """The distance from 1 to the next number of the type."""
    return 2.0**-10 if to == ir.DataType.FLOAT16 else 2.0**-7


def _widened(narrow: np.ndarray) -> ir.TensorProtocol:
    return ir.tensor(narrow.astype(np.float32))
