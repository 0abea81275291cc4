"""The names of a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass


def name_interface(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Gives graph inputs and outputs these names, in order; whatever else had one of them gets another.

    An output that is also an input, a weight, or another output is passed through an Identity first, since
    a value has one name only.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        raise AssertionError(f"{graph.inputs} and {graph.outputs} do not match {inputs} and {outputs}")
    _separate_outputs(graph)
    _free_names(graph, {*inputs, *outputs})
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name
    NameFixPass()(model)  # inputs and outputs come first there, so they keep their names


def _separate_outputs(graph: ir.Graph) -> None:
    taken: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.producer() is None or value in taken:
            copy = ir.node("Identity", [value])
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]
        taken.add(graph.outputs[index])


def _free_names(graph: ir.Graph, wanted: set[str]) -> None:
    """Initializers are keyed by name in onnx_ir, so a rename must not run into another one."""
    for name in sorted(wanted & graph.initializers.keys()):
        free = f"{name}_weight"
        while free in wanted or free in graph.initializers:
            free += "_"
        graph.initializers[name].name = free
