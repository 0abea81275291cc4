"""One call of a fused function as a model, run by its body and lowered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from optc import rewrite
from optc.passbase import Context, Report
from optc.passes.legalize import Legalize
from optc.targets import cpu

TYPES = {"f": "float", "d": "double", "e": "float16", "?": "bool", "l": "int64"}


def call_model(
    kind: str,
    inputs: Mapping[str, tuple[str, Sequence[int | str]]],
    body: str,
    attributes: Mapping[str, Any],
    outputs: Sequence[tuple[str, Sequence[int | str]]],
    *,
    opset: int = 18,
    constants: Mapping[str, np.ndarray] | None = None,
    calls: int = 1,
) -> ir.Model:
    """A graph of calls with the same inputs; outputs are y0, y1... of the first, then of the second call."""
    constants = constants or {}
    args = ", ".join(f"{_type(*spec)} {name}" for name, spec in inputs.items() if name not in constants)
    names = [f"y{i}" for i in range(calls * len(outputs))]
    results = ", ".join(f"{_type(*outputs[i % len(outputs)])} {name}" for i, name in enumerate(names))
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g ({args}) => ({results}) {{ }}'
    graph_model = onnx.parser.parse_model(text)
    model = ir.from_proto(graph_model)
    function = rewrite.parse_function(kind, body, opset, attributes)
    model.functions[function.identifier()] = function
    model.opset_imports["optc"] = 1
    values = {str(v.name): v for v in model.graph.inputs}
    for name, value in values.items():
        value.shape = ir.Shape(inputs[name][1])  # the text has no form for rank 0
    for name, array in constants.items():
        tensor = ir.tensor(array, name=name)
        values[name] = ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        model.graph.register_initializer(values[name])
    wanted = list(model.graph.outputs)
    for i in range(calls):
        outs = wanted[i * len(outputs) : (i + 1) * len(outputs)]
        model.graph.append(
            ir.node(
                kind, [values[n] for n in inputs], attributes, domain="optc", outputs=outs, name=f"call{i}"
            )
        )
    return model


def _type(code: str, dims: Sequence[int | str]) -> str:
    return f"{TYPES[code]}[{', '.join(map(str, dims))}]"


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """By ONNX Runtime, as written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, dict(feeds))


def legalized(model: ir.Model, **decisions: str) -> tuple[ir.Model, Report]:
    """A lowered copy and what legalize says of it; names in decisions have _ for -."""
    lowered = model.clone()
    lowerings = {name.replace("_", "-"): value for name, value in decisions.items()}
    report = Legalize().run(lowered, Context(target=cpu.TARGET, lowerings=lowerings))
    return lowered, report


def ops(model: ir.Model) -> list[str]:
    """Operator types in order."""
    return [node.op_type for node in model.graph.all_nodes()]


def assert_same(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: float = 1e-5
) -> None:
    """Equal shapes and types, NaN in the same places, relative error of the rest within the tolerance."""
    assert len(expected) == len(actual)
    for e, a in zip(expected, actual, strict=True):
        assert (e.shape, e.dtype) == (a.shape, a.dtype)
        np.testing.assert_array_equal(np.isnan(e), np.isnan(a))
        scale = np.nanmax(np.abs(e), initial=1e-6)
        assert np.nanmax(np.abs(e - a), initial=0.0) <= tolerance * scale


def assert_lowers(model: ir.Model, feeds: Mapping[str, np.ndarray], **decisions: str) -> ir.Model:
    """The lowered model computes what the bodies compute, and has no body left."""
    lowered, report = legalized(model, **decisions)
    assert not report.skipped, report.skipped
    assert not lowered.functions
    assert_same(run(model, feeds), run(lowered, feeds))
    return lowered
