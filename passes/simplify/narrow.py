"""Broadcasts that the readers repeat anyway: the small tensor is enough.

An attention mask is the typical case: ``And(everything, padding)`` is [B, 1, S, S] although its rows are
equal, and the Add to the scores would broadcast [B, 1, 1, S] by itself.
"""

from __future__ import annotations

import onnx_ir as ir

from .dims import Dims, broadcast, same_shape
from .editor import Editor, Rule
from .identities import neutral_operand

_ELEMENTWISE = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where"),
        *("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        *(
            "Not",
            "Cast",
            "Neg",
            "Abs",
            "Relu",
            "Identity",
            "Sigmoid",
            "Tanh",
            "Exp",
            "Log",
            "Sqrt",
            "IsNaN",
            "Erf",
        ),
    }
)
_MOST_READERS = 4096


def _repeated_by_readers(node: ir.Node, editor: Editor) -> bool:
    """An Expand, or an operator with a neutral operand, that only repeats what its other operand is."""
    source = node.inputs[0] if node.op_type == "Expand" else neutral_operand(node, editor)
    output = node.outputs[0]
    small, large = editor.facts.shape(source), editor.facts.shape(output)
    if source is None or small is None or large is None or source.dtype != output.dtype:
        return False
    narrowed = _narrowed(output, small, editor)
    if narrowed is None:
        return False
    for value, shape in narrowed.items():
        value.shape = ir.Shape(shape)
    return editor.replace(output, source, inherit=False)


def _narrowed(start: ir.Value, small: Dims, editor: Editor) -> dict[ir.Value, Dims] | None:
    """The values whose shape changes when ``start`` is ``small``; None when a reader would notice."""
    narrowed = {start: small}
    waiting = [start]
    looked_at = 0
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return None
        for node in dict.fromkeys(use.node for use in value.uses()):
            looked_at += 1
            shape = _shape_with(node, narrowed, editor)
            if shape is None or looked_at > _MOST_READERS:
                return None
            output = node.outputs[0]
            if not same_shape(shape, narrowed.get(output, editor.facts.shape(output))):
                narrowed[output] = shape
                waiting.append(output)
    return narrowed


def _shape_with(node: ir.Node, narrowed: dict[ir.Value, Dims], editor: Editor) -> Dims | None:
    """The shape that an elementwise ``node`` would have, or None for another node or an uncertain shape."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _ELEMENTWISE:
        return None
    shapes = []
    for value in node.inputs:
        shape = narrowed[value] if value in narrowed else editor.facts.shape(value)
        if shape is None:
            return None
        shapes.append(shape)
    dims = [dim for dim in broadcast(shapes) if dim is not None]
    return tuple(dims) if len(dims) == max(len(shape) for shape in shapes) else None


RULES = (Rule("broadcast that readers repeat", ("Expand", "And", "Or", "Add", "Mul"), _repeated_by_readers),)
