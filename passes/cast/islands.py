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
_MARGIN = 0.5  # of the largest number: what calibration has not seen may be larger


def find(
    model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None, samples: Iterable[Feeds], ctx: Context
) -> dict[ir.Node, str]:
    """The nodes of the main graph that stay in float32 though they compute with it, with the reason."""
    largest = float(np.finfo(np.float16).max) if to == ir.DataType.FLOAT16 else float("inf")
    wide = _too_large(model, _MARGIN * largest, samples, ctx) if np.isfinite(largest) else {}
    reasons: dict[ir.Node, str] = {}
    for node in model.graph:
        too_large = _out_of_range(node, wide, largest)
        if not slots.concerns(node):
            continue
        if (reason := _why(node, model, to, kept) or too_large) is not None:
            reasons[node] = reason
    return reasons


def _why(node: ir.Node, model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None) -> str | None:
    if kept is not None and any(
        kept.search(str(name)) for name in (node.name, *(value.name for value in node.inputs if value))
    ):
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


def _out_of_range(node: ir.Node, wide: dict[ir.Value, str], largest: float) -> str | None:
    """Why a node meets numbers that the type cannot hold; notes the outputs that hand them on."""
    found = next((wide[value] for value in (*node.inputs, *node.outputs) if value in wide), None)
    if found is None:
        found = next((why for value in node.inputs if (why := _constant_too_large(value, largest))), None)
    if found is not None and node.op_type in _HANDING_ON:
        wide.update(dict.fromkeys(node.outputs, found))
    return found


def _constant_too_large(value: ir.Value | None, largest: float) -> str | None:
    if value is None or not slots.is_float(value) or not match.is_constant(value):
        return None
    array = match.constant(value)
    if array is None or not array.size:
        return None
    finite = array[np.isfinite(array)]
    if finite.size and float(np.abs(finite).max()) > largest:
        return f"the constant {value.name} does not fit"
    return None


def _too_large(model: ir.Model, limit: float, samples: Iterable[Feeds], ctx: Context) -> dict[ir.Value, str]:
    """The values that come near the largest number of the type on the samples."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    values = [value for value in values if slots.is_float(value) and not match.is_constant(value)]
    probes = {str(value.name): Extremes() for value in values}
    asked = {name: [probe] for name, probe in probes.items()}
    if not observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress):
        return {}
    found = {}
    for value in values:
        magnitude = float(probes[str(value.name)].magnitude)
        if np.isfinite(magnitude) and magnitude > limit:
            found[value] = f"{value.name} reaches {magnitude:.3g}"
    return found
