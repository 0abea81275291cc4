"""What must stay in float32 when the rest computes in half precision.

The rules of mixed-precision training (Micikevicius et al., ICLR 2018), for inference: sums over many elements
and what is exponentiated stay in float32, and so do values that the type cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passbase import Context, Feeds
from optc.passes.fuse._bias import biases
from optc.passes.quantize.calibration import Extremes, observe
from optc.rewrite import opset

from . import slots

# Statistics, what is exponentiated, and what turns small differences into large ones.
_PRECISE = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSumExp"}
    | {
        "Softmax",
        "LogSoftmax",
        "Exp",
        "Log",
        "Pow",
        "Sqrt",
        "Reciprocal",
        "CumSum",
        "Range",
        "Det",
        "Softplus",
    }
    | {"InstanceNormalization", "GroupNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN"}
    | {"BatchNormalization", "Erf", "Sin", "Cos", "Resize", "GridSample", "RandomNormal", "RandomUniform"}
    | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
)
# A norm subtracts a mean and divides by a deviation: as precise as those.
_STATISTIC = frozenset({"ReduceMean", "ReduceSum", "ReduceL2", "Sqrt", "Reciprocal"})
_POINTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
# What hands on a number that is too large, as masks of the smallest float32 are built.
_HANDING_ON = frozenset(
    {
        "Where",
        "Expand",
        "Reshape",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Concat",
        "Slice",
        "Gather",
        "Identity",
    }
    | {"Split", "Tile", "Flatten", "Neg", "Max", "Min", "Trilu", "ConstantOfShape", "Pad"}
)
# Where a tiny number keeps a divisor from zero: what reads the result needs it.
_KEEPING_ABOVE = frozenset({"Add", "Clip", "Max"})
# The largest and the smallest normal number of float16, and the distance from 1 to the next.
_LARGEST, _SMALLEST, _STEP = 65504.0, 2.0**-14, 2.0**-10
_MARGIN = 0.5  # of the largest number: what calibration has not seen may be larger


def find(
    model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None, samples: Iterable[Feeds], ctx: Context
) -> dict[ir.Node, str]:
    """The nodes of the main graph that stay in float32 though they compute with it, with the reason."""
    narrow = to == ir.DataType.FLOAT16  # the others have the range of float32
    unheld = _unheld(model, samples, ctx) if narrow else {}
    reasons: dict[ir.Node, str] = {}
    for node in model.graph:
        out_of_range = _out_of_range(node, unheld) if narrow else None
        if not slots.concerns(node):
            continue
        if (reason := _why(node, model, to, kept) or out_of_range) is not None:
            reasons[node] = reason
    return reasons


def _why(node: ir.Node, model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None) -> str | None:
    values = [*(value for value in node.inputs if value is not None), *biases(node)]
    names = [node.name, *(value.name for value in values)]
    if kept is not None and any(kept.search(str(name)) for name in names):
        return f"kept by {kept.pattern!r}"
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain} operators keep their precision"
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return "control flow hands values into its branches"
    if node.op_type in _PRECISE:
        return "statistics, softmax and what is like them need the precision"
    if match.is_op(node, *_POINTWISE) and any(_is_statistic(value) for value in node.inputs):
        return "it applies a statistic"
    if any(match.producer(value, "DequantizeLinear") is not None for value in node.inputs):
        return "it is quantized"
    if slots.find(node, opset(model), to) is None:
        return f"the operator is not declared for {to.name.lower()}"
    return None


def _is_statistic(value: ir.Value | None) -> bool:
    return match.producer(value, *_STATISTIC) is not None


def _out_of_range(node: ir.Node, unheld: dict[ir.Value, str]) -> str | None:
    """Why a node meets numbers that the type cannot hold; notes the outputs that hand them on."""
    held_badly = next((unheld[value] for value in (*node.inputs, *node.outputs) if value in unheld), None)
    too_large = next((why for value in node.inputs if (why := _constant_too_large(value))), None)
    too_small = next((why for value in node.inputs if (why := _constant_too_small(node, value))), None)
    found = held_badly or too_large or too_small
    keeps_above = too_small is not None and node.op_type in _KEEPING_ABOVE
    if found is not None and (keeps_above or node.op_type in _HANDING_ON):
        unheld.update(dict.fromkeys(node.outputs, found))
    return found


def _constant_too_large(value: ir.Value | None) -> str | None:
    array = _constant(value)
    if array is None or value is None:
        return None
    finite = array[np.isfinite(array)]
    if finite.size and float(np.abs(finite).max()) > _LARGEST:
        return f"the constant {value.name} does not fit"
    return None


def _constant_too_small(node: ir.Node, value: ir.Value | None) -> str | None:
    """Why rounding a constant changes it by more than the precision; what a sum hardly feels may be so."""
    array = _constant(value)
    if array is None or value is None or not np.isfinite(array).all() or np.abs(array).max() > _LARGEST:
        return None
    if array.size > 1 and node.op_type in ("Add", "Sub"):
        return None
    lost = float(np.linalg.norm(array.astype(np.float16) - array))
    return f"the constant {value.name} is too small" if lost > _STEP * float(np.linalg.norm(array)) else None


def _constant(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of a float constant, if it has any."""
    if value is None or not slots.is_float(value) or not match.is_constant(value):
        return None
    array = match.constant(value)
    return array if array is not None and array.size else None


def _unheld(model: ir.Model, samples: Iterable[Feeds], ctx: Context) -> dict[ir.Value, str]:
    """The values that come near the largest number of the type on the samples, or reach no normal one."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    values = [value for value in values if slots.is_float(value) and not match.is_constant(value)]
    probes = {str(value.name): Extremes() for value in values}
    asked = {name: [probe] for name, probe in probes.items()}
    if not observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress):
        return {}
    found = {}
    for value in values:
        magnitude = float(probes[str(value.name)].magnitude)
        if np.isfinite(magnitude) and magnitude > _MARGIN * _LARGEST:
            found[value] = f"{value.name} reaches {magnitude:.3g}"
        elif 0.0 < magnitude < _SMALLEST:
            found[value] = f"{value.name} only reaches {magnitude:.3g}"
    return found
