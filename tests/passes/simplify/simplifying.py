"""What the tests of simplify share: models from text, read back as formulas, run before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from optc.passbase import Context, Report
from optc.passes.simplify import Simplify
from optc.pipeline import run_pass
from optc.target import Target
from optc.trail import Trail
from optc.validate import Validator

SIZES: tuple[dict[str, int], ...] = ({"B": 2, "S": 5}, {"B": 1, "S": 1}, {"B": 3, "S": 2})
TARGET = Target("none", "for tests", {}, lambda model, node: None, (), lambda *a: [], lambda *a: None)


@dataclass
class Outcome:
    """The simplified model and what the pass reported."""

    model: ir.Model
    report: Report

    @property
    def formula(self) -> str:
        """The outputs as nested calls, ``Reshape(x, [0, -1])``; several outputs joined by a semicolon."""
        return "; ".join(_formula(value) for value in self.model.graph.outputs)

    @property
    def reasons(self) -> list[str]:
        return [skip.reason for skip in self.report.skipped]


def parse(
    body: str, *, opset: int = 20, constants: Mapping[str, Any] | None = None, imports: str = ""
) -> ir.Model:
    """A model from ``(float[B,4] x) => (float[B,4] y) { ... }`` and named initializers."""
    header = f'<ir_version: 10, opset_import: ["": {opset}{imports}]>'
    proto = onnx.parser.parse_model(f"{header}\ng {body}")
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def simplify(
    model: ir.Model,
    *,
    sizes: Iterable[Mapping[str, int]] = SIZES,
    feeds: Iterable[Mapping[str, np.ndarray]] | None = None,
    rtol: float = 0.0,
    **options: Any,
) -> Outcome:
    """Simplifies in place; checks every rewrite, interface, numbers (bit for bit), idempotence and report."""
    plain = ir.to_proto(model).SerializeToString()
    interface, nodes = _interface(model), _nodes(model)
    runs = list(feeds) if feeds is not None else [_random_feeds(model, size) for size in sizes]
    trail = Trail(watchers=(Validator(runs),))
    report = run_pass(Simplify(**options), model, Context(target=TARGET, trail=trail))
    assert _interface(model) == interface
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    assert report.changed or _nodes(model) == nodes
    before, after = _session(plain), _session(proto.SerializeToString())
    for fed in runs:
        for expected, found in zip(before.run(None, fed), after.run(None, fed), strict=True):
            assert_same(expected, found, rtol)
    again = Simplify(**options).run(model, Context(target=TARGET))
    assert not again.changed, again.matched
    return Outcome(model, report)


def formula(body: str, **given: Any) -> str:
    """The formula of a model from text after simplification."""
    options = {key: given.pop(key) for key in ("sizes", "feeds", "rtol") if key in given}
    return simplify(parse(body, **given), **options).formula


def assert_same(expected: Any, found: Any, rtol: float) -> None:
    if rtol:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
        return
    assert expected.dtype == found.dtype and expected.shape == found.shape
    np.testing.assert_array_equal(found, expected)
    if expected.dtype.kind == "f":  # -0.0 == 0.0, but they are not the same
        real = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[real]), np.signbit(expected[real]))


def _interface(model: ir.Model) -> list[tuple[str | None, Any, str]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, value.type, str(value.shape)) for value in values]


def _nodes(model: ir.Model) -> list[tuple[str, list[str | None], list[str | None]]]:
    return [
        (node.op_type, [v and v.name for v in node.inputs], [v.name for v in node.outputs])
        for node in model.graph
    ]


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _random_feeds(model: ir.Model, size: Mapping[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        shape = [dim if isinstance(dim, int) else size[str(dim.value)] for dim in value.shape or ()]
        dtype = value.dtype.numpy()  # type: ignore[union-attr]
        if dtype.kind == "f":
            array = rng.normal(size=shape).astype(dtype)
            array.reshape(-1)[:3] = [-0.0, np.nan, np.inf][: array.size]
        elif dtype.kind == "b":
            array = np.asarray(rng.random(shape) < 0.5)
        else:
            array = rng.integers(0, 2, size=shape).astype(dtype)
        feeds[str(value.name)] = array
    return feeds


def _formula(value: ir.Value | None) -> str:
    if value is None:
        return "_"
    node = value.producer()
    if node is not None and node.op_type != "Constant":
        attributes = ", ".join(f"{k}={_text(v)}" for k, v in sorted(node.attributes.items()))
        inputs = ", ".join(_formula(each) for each in node.inputs)
        index = f".{value.index()}" if len(node.outputs) > 1 else ""
        return f"{node.op_type}{'{' + attributes + '}' if attributes else ''}({inputs}){index}"
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or value.is_graph_input() or tensor.size > 8:
        return str(value.name)
    return str(tensor.numpy().tolist())


def _text(attribute: ir.Attr) -> str:
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "graph"
    return str(list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value)
