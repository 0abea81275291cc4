"""Constants that rewritten nodes read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


class Names:
    """Value names that the model does not have yet; they depend on nothing but the model."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._taken: set[str | None] | None = None

    def fresh(self, stem: str) -> str:
        """``stem``, with a number where the model has such a name."""
        if self._taken is None:
            bodies: list[ir.Graph | ir.Function] = [self._model.graph, *self._model.functions.values()]
            self._taken = {value.name for body in bodies for value in body.inputs}
            self._taken |= {value.name for body in bodies for n in body.all_nodes() for value in n.outputs}
            for graph in (self._model.graph, *self._model.graph.subgraphs()):
                self._taken |= {value.name for value in (*graph.inputs, *graph.initializers.values())}
        name, number = stem, 1
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name


def constant(node: ir.Node, array: np.ndarray, role: str, names: Names) -> ir.Value:
    """The value of a new Constant node before ``node``, which may lie in a graph or in a function."""
    assert node.graph is not None
    name = names.fresh(f"{node.outputs[0].name or node.name}__{role}")
    tensor = ir.tensor(array, name=name)
    made = ir.node("Constant", [], {"value": tensor}, name=f"node_{name}")
    output = made.outputs[0]
    output.name, output.shape, output.type = name, ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    node.graph.insert_before(node, made)
    return output
