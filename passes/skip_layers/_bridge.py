"""Puts a fitted map into the graph, folded into a norm in front of it where that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from optc.match import constant, is_op

from ._compensate import Array, Fit
from ._sites import Site


@dataclass
class Bridge:
    """Inserts ``fit`` after the entry of a removed stretch; ``how`` says afterwards what was done."""

    fit: Fit
    removed: Sequence[Site]
    how: str = field(default="", init=False)

    def __call__(self, entry: ir.Value) -> ir.Value:
        """Returns the value that stands for the exit."""
        if self.fit.kind == "diagonal" and (folded := self._fold(entry)) is not None:
            self.how = "diagonal, folded into the norm before it"
            return folded
        self.how = self.fit.kind
        graph = _graph_of(entry)
        assert entry.dtype is not None
        numpy_type = entry.dtype.numpy()
        name = f"{self.removed[-1].exit}_bridge"
        weight = _initializer(graph, f"{name}_weight", self.fit.weight.astype(numpy_type))
        bias = _initializer(graph, f"{name}_bias", self.fit.bias.astype(numpy_type))
        scaled = ir.node("MatMul" if self.fit.kind == "linear" else "Mul", [entry, weight], name=name)
        shifted = ir.node("Add", [scaled.outputs[0], bias], name=f"{name}_shift")
        for node in (scaled, shifted):
            node.outputs[0].type, node.outputs[0].shape = entry.type, entry.shape
            node.outputs[0].name = node.name
        producer = entry.producer()
        if producer is None:
            graph.insert_before(graph[0], [scaled, shifted])
        else:
            graph.insert_after(producer, [scaled, shifted])
        return shifted.outputs[0]

    def _fold(self, entry: ir.Value) -> ir.Value | None:
        """Scales and shifts the affine of the norm that makes ``entry``, if only what is removed reads it."""
        node = entry.producer()
        if node is None or not is_op(node, "LayerNormalization") or entry.is_graph_output():
            return None
        names = {str(each.name) for site in self.removed for each in site.nodes}
        if any(str(use.node.name) not in names for use in entry.uses()):
            return None
        gamma = constant(node.inputs[1])
        given = node.inputs[2] if len(node.inputs) > 2 else None
        beta = constant(given) if given is not None else np.zeros_like(self.fit.bias)
        if gamma is None or beta is None or gamma.shape != self.fit.weight.shape:
            return None
        graph = _graph_of(entry)
        scaled = _initializer(graph, f"{entry.name}_scale", (gamma * self.fit.weight).astype(gamma.dtype))
        shift = (beta * self.fit.weight + self.fit.bias).astype(gamma.dtype)
        shifted = _initializer(graph, f"{entry.name}_shift", shift)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(1, scaled)
        node.replace_input_with(2, shifted)
        return entry


def _graph_of(entry: ir.Value) -> ir.Graph:
    producer = entry.producer()
    graph = entry.graph if producer is None else producer.graph
    assert isinstance(graph, ir.Graph)
    return graph


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    graph.register_initializer(value)
    return value
