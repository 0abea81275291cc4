"""Constant nodes of the main graph become initializers: one way to hold a constant instead of two."""

from __future__ import annotations

import onnx_ir as ir

from .editor import Editor


def lift_constants(editor: Editor) -> int:
    """Lifts the numeric Constant nodes that are no outputs of the graph; returns how many."""
    lifted = 0
    for node in list(editor.model.graph):
        if not editor.trail.open:
            break
        if node.op_type != "Constant" or node.domain != "" or node.outputs[0].is_graph_output():
            continue
        tensor = editor.facts.const(node.outputs[0])
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        editor.replace(node.outputs[0], editor.constant(tensor, f"{node.outputs[0].name}_value"))
        editor.trail.applied("constant lifted", [node])
        lifted += 1
    return lifted
