"""The dims that tensors were seen to have, in one inference."""

from __future__ import annotations

import re
from weakref import WeakKeyDictionary

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

# Of each context: by the graph whose nodes run together, the dims that are no plain names.
_seen: WeakKeyDictionary[ShapeInferenceContext, dict[object, dict[str, ir.SymbolicDim]]] = WeakKeyDictionary()


def note(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Remembers the dims of what ``node`` computes."""
    for output in node.outputs:
        for dim in output.shape or ():
            if isinstance(dim, ir.SymbolicDim) and dim.value and ("//" in dim.value or "floor(" in dim.value):
                _seen.setdefault(ctx, {}).setdefault(node.graph, {})[dim.value] = dim


def bounded(ctx: ShapeInferenceContext, node: ir.Node, wanted: ir.SymbolicDim) -> ir.SymbolicDim | None:
    """``wanted``, where it is at least 0 because a tensor that is computed whenever ``node`` is has that dim.

    Or has one more, as a convolution does: a symbolic dim is taken to be at least 1. Spelled as the tensor
    has it, if that is equal.
    """
    for dim in _seen.get(ctx, {}).get(node.graph, {}).values():
        if dim.free_symbols() == wanted.free_symbols():
            more = (dim - wanted).simplify().value or ""
            if re.fullmatch(r"-\d+|0|1", more):
                return dim if more == "0" else wanted
    return None
