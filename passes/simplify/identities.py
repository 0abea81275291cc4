"""Nodes that compute what they are given: Identity, inference Dropout, x+0, x*1, x and True, and the like."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .dims import broadcast, same, same_shape
from .editor import Editor, Rule, attribute, operand, producer
from .uniform import uniform

_INVOLUTIONS = ("Not", "Neg")
_IDEMPOTENT = ("Relu", "Abs", "Floor", "Ceil", "Round", "Sign")
_BLIND_TO_SIGN_OF_ZERO = ("Softmax", "Exp", "Sigmoid", "Abs", "Cos", "Cosh")


def _identity(node: ir.Node, editor: Editor) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if source is None or (output.is_graph_output() and not _can_take_over(source, node)):
        return False
    return editor.replace(output, source)


def _can_take_over(source: ir.Value, node: ir.Node) -> bool:
    """Whether ``source`` may become the graph output itself."""
    made_by = source.producer()
    return made_by is not None and made_by.graph is node.graph and not source.is_graph_output()


def _dropout(node: ir.Node, editor: Editor) -> bool:
    """Dropout at inference, when nobody reads its mask."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    training = operand(node, 2)
    if training is not None:
        switch = editor.facts.array(training)
        if switch is None or bool(switch):
            return editor.skip(node, "dropout kept: it may be in training mode")
    if editor.opset < 7 and not attribute(node, "is_test", 0):
        return False
    source = node.inputs[0]
    return source is not None and editor.replace(node.outputs[0], source)


def _neutral(node: ir.Node, editor: Editor) -> bool:
    """``x + 0``, ``x - 0``, ``x * 1``, ``x / 1``, ``x ** 1``, ``x and True``, ``x or False``, bit for bit."""
    source = neutral_operand(node, editor)
    if source is None or not _keeps_shape(source, node, editor):
        return False
    return editor.replace(node.outputs[0], source)


def neutral_operand(node: ir.Node, editor: Editor) -> ir.Value | None:
    """The operand that the node only repeats, broadcast with the shape of a neutral one."""
    swappable = node.op_type in ("Add", "Mul", "And", "Or", "Xor")
    for index in (1, 0) if swappable else (1,):
        number = uniform(node.inputs[index], editor)
        if number is not None and _is_neutral(node, number):
            return node.inputs[1 - index]
    return None


def _is_neutral(node: ir.Node, number: np.generic) -> bool:
    if node.op_type in ("And", "Or", "Xor"):
        return bool(number) == (node.op_type == "And")
    if node.op_type not in ("Add", "Sub"):
        return bool(number == 1)
    if number != 0 or np.issubdtype(number.dtype, np.integer):
        return bool(number == 0)
    # -0.0 + 0.0 is 0.0: only -0.0 may be added, and only 0.0 subtracted, without touching any bit.
    return bool(np.signbit(number)) == (node.op_type == "Add") or _sign_of_zero_is_lost(node.outputs[0])


def _sign_of_zero_is_lost(value: ir.Value) -> bool:
    """Whether all readers compute the same bits from 0.0 and -0.0, as the softmax of masked scores does."""
    return not value.is_graph_output() and all(
        reader.op_type in _BLIND_TO_SIGN_OF_ZERO and reader.domain in ("", "ai.onnx")
        for reader in value.consumers()
    )


def _keeps_shape(source: ir.Value, node: ir.Node, editor: Editor) -> bool:
    """Whether broadcasting with the neutral operand leaves the shape of ``source`` alone."""
    other = node.inputs[1] if node.inputs[0] is source else node.inputs[0]
    shape, small = editor.facts.shape(source), editor.facts.shape(other)
    if small == ():
        return True
    if shape is None or small is None or len(small) > len(shape):
        return False
    result = broadcast([shape, small])
    return all(dim is not None and same(dim, old) for dim, old in zip(result, shape, strict=True))


def _single_operand(node: ir.Node, editor: Editor) -> bool:
    """Sum, Max, Min or Mean of one tensor."""
    source = node.inputs[0]
    return len(node.inputs) == 1 and source is not None and editor.replace(node.outputs[0], source)


def _twice(node: ir.Node, editor: Editor) -> bool:
    """``f(f(x))``: x for a function that is its own inverse, f(x) for one that changes nothing again."""
    inner = producer(node.inputs[0], node.op_type)
    if inner is None or inner.inputs[0] is None:
        return False
    result = inner.inputs[0] if node.op_type in _INVOLUTIONS else inner.outputs[0]
    return editor.replace(node.outputs[0], result)


def _decided_where(node: ir.Node, editor: Editor) -> bool:
    """A Where whose condition is the same everywhere, or whose branches are the same value."""
    condition, yes, no = node.inputs
    if condition is None or yes is None or no is None:
        return False
    choice = uniform(condition, editor)
    if yes is not no and choice is None:
        return False
    taken = yes if choice is None or bool(choice) else no
    if not same_shape(editor.facts.shape(taken), editor.facts.shape(node.outputs[0])):
        return False
    return editor.replace(node.outputs[0], taken)


RULES = (
    Rule("identity", ("Identity",), _identity),
    Rule("dropout", ("Dropout",), _dropout),
    Rule("neutral operand", ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor"), _neutral),
    Rule("operator of one operand", ("Sum", "Max", "Min", "Mean"), _single_operand),
    Rule("applied twice", (*_INVOLUTIONS, *_IDEMPOTENT), _twice),
    Rule("where that is decided", ("Where",), _decided_where),
)
