"""New nodes of the graph, each behind the last, with names that do not depend on anything but the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import rewrite
from optc.rewrite import Match


class Emitter:
    """Inserts nodes behind ``anchor``, which moves along."""

    def __init__(self, model: ir.Model, anchor: ir.Node, name: str) -> None:
        assert isinstance(anchor.graph, ir.Graph), "tokens are followed in the main graph"
        self.model, self.graph, self.anchor, self.name = model, anchor.graph, anchor, name
        self._count = 0

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        dtype: ir.DataType | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """One node with one output; the output has the type of the first input, or ``dtype``."""
        node = ir.node(op_type, inputs, attributes)
        self._insert(node)
        value = node.outputs[0]
        known = dtype or (inputs[0].dtype if inputs and inputs[0] is not None else None)
        if known is not None:
            value.type = ir.TensorType(known)
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """A 1-D int64 constant."""
        return self.constant(np.array(numbers, np.int64))

    def constant(self, array: np.ndarray) -> ir.Value:
        """A constant."""
        node = ir.node("Constant", [], {"value": ir.tensor(array)})
        self._insert(node)
        value = node.outputs[0]
        value.type, value.shape = ir.TensorType(ir.tensor(array).dtype), ir.Shape(array.shape)
        return value

    def call(
        self,
        kind: str,
        body: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> list[ir.Value]:
        """A call of an ``optc`` function; its outputs are named after ``outputs``."""
        function = rewrite.function_for(self.model, Match(kind, inputs, [], body, attributes))
        node = ir.node(
            function.name, inputs, dict(attributes), domain=rewrite.DOMAIN, num_outputs=len(outputs)
        )
        self._insert(node)
        for value, name in zip(node.outputs, outputs, strict=True):
            value.name = f"{node.name}_{name}"
        return list(node.outputs)

    def _insert(self, node: ir.Node) -> None:
        self._count += 1
        node.name = f"{self.name}_{self._count}"
        for value in node.outputs:
            value.name = node.name
        self.graph.insert_after(self.anchor, node)
        self.anchor = node
