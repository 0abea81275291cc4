"""Small models of products as ONNX text, and the arithmetic that quantized ones stand for, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from optc import registry
from optc.passbase import Context, Feeds
from optc.passes.quantize.static import saturation
from optc.pipeline import Pipeline, Record


def parse(body: str, opset: int = 21, **constants: np.ndarray) -> ir.Model:
    """A model from ``(inputs) => (outputs) { nodes }`` with initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\ng {body}')
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
    return ir.from_proto(proto)


def run(
    pipeline: str, model: ir.Model, samples: Sequence[Feeds] | None = None, **limits: float
) -> tuple[ir.Model, list[Record]]:
    """The model after a pipeline, and the records."""
    ctx = Context(target=registry.find_target("cpu"), calibration=samples, **limits)
    return Pipeline.parse(pipeline).run(model, ctx)


def ops(model: ir.Model) -> list[str]:
    """The op types of the main graph in order."""
    return [node.op_type for node in model.graph]


def rounded(x: np.ndarray) -> np.ndarray:
    """What is left of x behind DynamicQuantizeLinear, as the operator is defined."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


def rounded_weight(w: np.ndarray, *, per_channel: bool = True) -> np.ndarray:
    """What is left of a weight [K, N] on grids from its smallest to its largest."""
    axis, limit = 0 if per_channel else None, saturation.largest_code()
    low, high = np.minimum(w.min(axis=axis), 0), np.maximum(w.max(axis=axis), 0)
    scale = ((high - low) / (2 * limit + 1)).astype(np.float32)
    zero = np.rint(-limit - 1 - low / scale)
    return np.asarray((np.clip(np.rint(w / scale) + zero, -limit - 1, limit) - zero) * scale, np.float32)


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """The relative L2 error."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
