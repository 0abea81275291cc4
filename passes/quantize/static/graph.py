"""Edits of the main graph that keep names unique and values typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.shapes import UNKNOWN_KEY


class Graph:
    """Puts nodes and constants into the main graph of a model."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self._names: set[str] = set()
        for graph in model.graphs():
            self._names.update(str(value.name) for value in graph.inputs)
            self._names.update(graph.initializers)
            for node in graph:
                self._names.add(str(node.name))
                self._names.update(str(value.name) for value in node.outputs)

    def fresh(self, hint: str) -> str:
        """A name that nothing has, starting with ``hint``."""
        name, number = hint, 1
        while name in self._names:
            name, number = f"{hint}_{number}", number + 1
        self._names.add(name)
        return name

    def constant(self, array: np.ndarray, hint: str) -> ir.Value:
        """A new initializer."""
        tensor = ir.tensor(array)
        value = ir.Value(
            name=self.fresh(hint),
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
            const_value=tensor,
        )
        self.graph.register_initializer(value)
        return value

    def make(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        hint: str,
        dtype: ir.DataType,
        shape: ir.Shape | None,
        **attributes: Any,
    ) -> ir.Value:
        """The output of a new node, which has no place yet."""
        output = ir.Value(name=self.fresh(hint), type=ir.TensorType(dtype), shape=shape)
        if shape is None:
            output.meta[UNKNOWN_KEY] = True
        ir.node(op_type, inputs, attributes, outputs=[output], name=self.fresh(f"{hint}_node"))
        return output

    def place_before(self, node: ir.Node, *values: ir.Value) -> None:
        """Puts the nodes that compute ``values`` right before another."""
        self.graph.insert_before(node, _makers(values, node))

    def place_behind(self, value: ir.Value, *values: ir.Value) -> None:
        """Puts the nodes that compute ``values`` where ``value`` has just become known."""
        maker = value.producer()
        if maker is not None:
            self.graph.insert_after(maker, _makers(values, maker))
        elif len(self.graph):
            self.graph.insert_before(self.graph[0], _makers(values, None))
        else:
            self.graph.extend(_makers(values, None))

    def replace(self, old: ir.Value, new: ir.Value, *, but: ir.Node | None = None) -> None:
        """Makes all that read ``old`` (except one node) read ``new``; a graph output keeps its name."""
        for reader, index in old.uses():
            if reader is not but:
                reader.replace_input_with(index, new)
        if not old.is_graph_output():
            return
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new
        name = str(old.name)
        old.name, new.name = self.fresh(f"{name}_exact"), name

    def remove(self, node: ir.Node) -> None:
        """Removes a node that nothing reads."""
        self.graph.remove(node, safe=True)

    def drop_unused(self) -> None:
        """Removes the initializers that nothing reads any more."""
        for name, value in list(self.graph.initializers.items()):
            if not (value.uses() or value.is_graph_input() or value.is_graph_output()):
                del self.graph.initializers[name]


def _makers(values: Sequence[ir.Value], like: ir.Node | None) -> list[ir.Node]:
    nodes = []
    for value in values:
        node = value.producer()
        assert node is not None
        if like is not None:
            node.metadata_props.update(like.metadata_props)
        nodes.append(node)
    return nodes
