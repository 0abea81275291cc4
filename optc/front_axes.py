"""Axes of reductions, counted from the front: ONNX Runtime keeps a negative axis of what is empty.

``ReduceSum(x, axes=[-1])`` of [0, 3] gives [0, 3] there instead of [0]; with ``axes=[1]`` it is right.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from optc.match import constant
from optc.opsets.constants import Names
from optc.opsets.constants import constant as new_constant

_WITH_AXES = frozenset(
    ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin")
    + ("ReduceProd", "ReduceSum", "ReduceSumSquare")
)
_WITH_AXIS = frozenset(("ArgMax", "ArgMin"))


def count_from_front(model: ir.Model) -> bool:
    """Makes negative axes of reductions positive, in place; what has no rank stays. Whether any were."""
    found = list(_reductions(model))
    names = Names(model)
    for node, axes in found:
        _set(node, axes, names)
    return bool(found)


def counts_from_back(model: ir.Model) -> bool:
    """Whether `count_from_front` would change anything."""
    return next(_reductions(model), None) is not None


def _reductions(model: ir.Model) -> Iterator[tuple[ir.Node, list[int]]]:
    """Those with a negative axis, and their axes from the front."""
    for node in model.graph.all_nodes():
        if node.domain != "" or node.op_type not in _WITH_AXES | _WITH_AXIS:
            continue
        given, axes = node.inputs[0], _axes(node)
        if given is None or given.shape is None or not any(axis < 0 for axis in axes):
            continue
        yield node, [axis % len(given.shape) for axis in axes]


def _axes(node: ir.Node) -> list[int]:
    """The axes that are known; none where they are left out."""
    if node.op_type in _WITH_AXIS:
        return [node.attributes.get_int("axis", 0)]
    if (attribute := node.attributes.get("axes")) is not None:
        return [] if attribute.is_ref() else list(attribute.as_ints())
    array = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return [] if array is None else [int(axis) for axis in array.ravel()]


def _set(node: ir.Node, axes: list[int], names: Names) -> None:
    if node.op_type in _WITH_AXIS:
        node.attributes["axis"] = ir.AttrInt64("axis", axes[0])
    elif "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    else:
        node.replace_input_with(1, new_constant(node, np.array(axes, np.int64), "axes", names))
