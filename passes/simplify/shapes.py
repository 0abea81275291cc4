"""Arithmetic on shapes: integer tensors whose contents are known, and repetitions that repeat nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .dims import same_shape
from .editor import Editor, Rule, operand

_INT64 = np.iinfo(np.int64)
# Where inference follows the contents of integer tensors (constants are folded by evaluation).
_ARITHMETIC = (
    *("Shape", "Size", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast"),
    *("Add", "Sub", "Mul", "Div", "Neg", "Max", "Min", "Where", "Range"),
)


def _known_contents(node: ir.Node, editor: Editor) -> bool:
    """An integer tensor of which every element is known, although its inputs are not constants."""
    output, facts = node.outputs[0], editor.facts
    if node.op_type == "Identity" and facts.const(node.inputs[0]) is not None:
        return False  # a constant that is an output of the graph
    numbers, shape = facts.ints(output), facts.shape(output)
    if numbers is None or shape is None or len(shape) > 1 or output.dtype is None:
        return False
    limits = _INT64 if output.dtype == ir.DataType.INT64 else np.iinfo(np.int32)
    if any(not limits.min <= number <= limits.max for number in numbers):
        return False
    array = np.array(numbers, dtype=output.dtype.numpy()).reshape(() if not shape else (len(numbers),))
    return editor.replace(output, editor.constant(array, f"{output.name}_value"))


def _same_shape(node: ir.Node, editor: Editor) -> bool:
    """Expand and Tile that change nothing."""
    source = node.inputs[0]
    if source is None:
        return False
    if node.op_type == "Tile":
        repeats = editor.facts.ints(operand(node, 1))
        nothing = repeats is not None and all(count == 1 for count in repeats)
    else:
        nothing = same_shape(editor.facts.shape(source), editor.facts.shape(node.outputs[0]))
    return nothing and editor.replace(node.outputs[0], source)


def _scalar_operands(node: ir.Node, editor: Editor) -> bool:
    """Range takes scalars; ONNX Runtime only lets a vector pass as long as it does not know the shape."""
    changed = False
    for index, value in enumerate(node.inputs):
        if value is not None and editor.facts.shape(value) == (1,):
            scalar = editor.add(node, "Reshape", [value, editor.ints([], f"{value.name}_scalar")])
            editor.set_input(node, index, scalar)
            changed = True
    return changed


def _same_contents(node: ir.Node, editor: Editor) -> bool:
    """A Where on integers that yields one of its operands, element by element."""
    facts, output = editor.facts, node.outputs[0]
    result, shape = facts.contents(output), facts.shape(output)
    for source in node.inputs[1:]:
        contents = facts.contents(source)
        if source is None or result is None or not same_shape(result, contents):
            continue
        if same_shape(facts.shape(source), shape):
            return editor.replace(output, source)
    return False


RULES = (
    Rule("shape arithmetic", _ARITHMETIC, _known_contents),
    Rule("shape chosen by where", ("Where",), _same_contents),
    Rule("expand that repeats nothing", ("Expand", "Tile"), _same_shape),
    Rule("scalar operand of a range", ("Range",), _scalar_operands),
)
