"""What tests of fusion patterns share: a model from text, fused by patterns, run before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import CheckerPass
from onnx_shape_inference import infer_symbolic_shapes

from optc import rewrite
from optc.rewrite import Fusions, Pattern
from optc.trail import Trail
from optc.validate import Validator

_SIZES = {"B": 2, "S": 5, "T": 3}


def parse(body: str, *, opset: int = 20, constants: Mapping[str, np.ndarray] | None = None) -> ir.Model:
    """A model from ``(float[B,4] x) => (float[B,4] y) { ... }`` and named initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\ng {body}')
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def fuse(model: ir.Model, *patterns: Pattern) -> Fusions:
    """Runs the patterns as the pass does; checks each rewrite, and that the result is a valid model."""
    infer_symbolic_shapes(model)
    trail = Trail(watchers=(Validator([random_feeds(model)]),))
    trail.starting("fuse", model, exact=True)
    done = rewrite.apply(patterns, model, trail)
    CheckerPass()(model)
    return done


def ops(model: ir.Model) -> list[str]:
    """The op types of the main graph in order; fused calls by their kind."""
    return [rewrite.kind(node) or node.op_type for node in model.graph if node.op_type != "Constant"]


def run(model: ir.Model, seed: int = 0) -> list[np.ndarray]:
    """The outputs of stock ONNX Runtime without optimizations, for random inputs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, random_feeds(model, seed))


def random_feeds(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random numbers for every input, at sizes that are the same for equal names."""
    generator = np.random.default_rng(seed)
    return {str(i.name): _random(i, generator) for i in model.graph.inputs}


def _random(value: ir.Value, generator: np.random.Generator) -> np.ndarray:
    assert value.shape is not None and value.dtype is not None
    shape = [d if isinstance(d, int) else _SIZES[str(d)] for d in value.shape]
    return (2.0 * generator.standard_normal(shape)).astype(value.dtype.numpy())


def fused_same(model: ir.Model, *patterns: Pattern, rtol: float = 1e-5, atol: float = 1e-6) -> Fusions:
    """Fuses, and asserts that the model's outputs are those that it had before."""
    before = run(model)
    done = fuse(model, *patterns)
    for old, new in zip(before, run(model), strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        np.testing.assert_allclose(new.astype(np.float64), old.astype(np.float64), rtol=rtol, atol=atol)
    return done


def refusal(model: ir.Model, *patterns: Pattern) -> str:
    """The only reason given by patterns that must leave the model as it is."""
    before = ops(model)
    done = fuse(model, *patterns)
    assert ops(model) == before and not done.matched
    assert len(done.skipped) == 1, done.skipped
    return done.skipped[0].reason
