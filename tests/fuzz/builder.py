"""Builds a graph node by node, and runs each as it is added: every value has a known shape and contents."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

MAX_ELEMENTS = 4096
FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))


class Reject(Exception):
    """The node is not valid, or ONNX Runtime has no kernel for it: the move is taken back."""


@dataclass
class Names:
    """Fresh names, shared by a graph and its subgraphs."""

    count: int = 0

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"


@dataclass
class Builder:
    """One graph under construction; values are names, and ``known`` holds what each contains."""

    rng: random.Random
    opset: int
    names: Names = field(default_factory=Names)
    outer: dict[str, np.ndarray] = field(default_factory=dict)  # what a subgraph sees from outside
    known: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # name -> declared dims
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    # -- values ------------------------------------------------------------------------------------------

    def value(self, name: str) -> np.ndarray:
        return self.known[name] if name in self.known else self.outer[name]

    def pool(self, wanted: Callable[[np.ndarray], bool] = lambda array: True) -> list[str]:
        """Names of values that fit, the latest last."""
        return [name for name, array in {**self.outer, **self.known}.items() if wanted(array)]

    def pick(self, wanted: Callable[[np.ndarray], bool] = lambda array: True) -> str:
        """A value that fits, more often a late one; Reject when there is none."""
        found = self.pool(wanted)
        if not found:
            raise Reject("no value fits")
        return found[max(self.rng.randrange(len(found)), self.rng.randrange(len(found)))]

    def input(self, array: np.ndarray, dims: Sequence[Any] | None = None) -> str:
        name = self.names.fresh("x")
        self.known[name] = np.asarray(array)
        self.inputs[name] = tuple(array.shape if dims is None else dims)
        return name

    def constant(self, array: Any, dtype: Any = None) -> str:
        """An initializer, now and then a Constant node or one that is there already."""
        array = np.asarray(array, dtype)
        if self.rng.random() < 0.5:
            for name, other in self.constants.items():
                if other.dtype == array.dtype and other.shape == array.shape and _same(other, array):
                    return name
        name = self.names.fresh("c")
        if self.rng.random() < 0.15:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.constants[name] = array
        self.known[name] = np.asarray(array)
        return name

    # -- nodes -------------------------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: str | None, domain: str = "", **attributes: Any) -> str:
        return self.ops(op_type, inputs, 1, domain=domain, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Iterable[str | None], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Adds a node and runs it; Reject when it cannot run or grows too large."""
        results = [self.names.fresh("v") for _ in range(outputs)]
        given = [name or "" for name in inputs]
        stated = {
            key: value for key, value in attributes.items() if not (isinstance(value, list) and not value)
        }
        node = helper.make_node(op_type, given, results, domain=domain, **stated)
        self.append(node)
        return results

    def append(self, node: onnx.NodeProto) -> None:
        read = dict.fromkeys([*(name for name in node.input if name), *captured(node)])
        found = _evaluate(node, {name: self.value(name) for name in read}, self.opset)
        if any(array.size > MAX_ELEMENTS for array in found):
            raise Reject("too large")
        empty = any(self.value(name).size == 0 for name in read)
        if empty and node.op_type in ("MatMul", "Gemm", "Einsum") and any(array.size for array in found):
            raise Reject("a sum over nothing: ONNX Runtime may return what was in the memory before")
        if empty and node.op_type.startswith("Reduce"):
            raise Reject("a reduction of nothing: ONNX Runtime may keep the axis that is reduced")
        self.nodes.append(node)
        self.known.update(zip(node.output, found, strict=True))

    def attempt(self, move: Callable[[Builder], Any]) -> bool:
        """Runs a move; one that is rejected leaves no trace."""
        nodes, known = len(self.nodes), dict(self.known)
        inputs, constants = dict(self.inputs), dict(self.constants)
        try:
            move(self)
        except Reject:
            del self.nodes[nodes:]
            self.known, self.inputs, self.constants = known, inputs, constants
            return False
        return True

    def inside(self) -> Builder:
        """A builder for a subgraph that sees the values made so far."""
        return Builder(self.rng, self.opset, self.names, {**self.outer, **self.known})

    # -- chance ------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def mostly(self, usual: Any, *others: Any) -> Any:
        """What the pattern expects, or now and then something near it."""
        return self.rng.choice(others) if others and self.chance(0.12) else usual


def captured(node: onnx.NodeProto) -> list[str]:
    """Names that the subgraphs of a node read from outside."""
    found: list[str] = []
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else []:
            own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            for inner in graph.node:
                found += [n for n in [*inner.input, *captured(inner)] if n and n not in own]
                own |= set(inner.output)
            found += [v.name for v in graph.output if v.name not in own]
    return found


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def _evaluate(node: onnx.NodeProto, feeds: dict[str, np.ndarray], opset: int) -> list[np.ndarray]:
    kinds = tuple((name, array.dtype.str, array.shape) for name, array in feeds.items())
    try:
        session = _session(node.SerializeToString(), kinds, opset)
        return [np.asarray(array) for array in session.run(None, feeds)]
    except Exception as error:
        raise Reject(str(error)) from error


@lru_cache(maxsize=16)
def _session(node: bytes, kinds: tuple[Any, ...], opset: int) -> ort.InferenceSession:
    proto = onnx.NodeProto.FromString(node)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, dtype, shape in kinds
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output]
    return session(model([proto], inputs, outputs, {}, opset))


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    opset: int,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "fuzz", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    if any(node.domain == "com.microsoft" for node in nodes):
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
