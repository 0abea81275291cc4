"""The dims that tensors are known to have, in one inference."""

from __future__ import annotations

import re
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

# What an inference calls what it does not know; the next one gives these names anew.
INVENTED = re.compile(r"\b_d\d+\b")

_Dims = dict[str, ir.SymbolicDim]  # by how they are spelled

# Of each context: by the graph whose nodes run together, the dims that are no plain names.
_seen: WeakKeyDictionary[ShapeInferenceContext, dict[object, _Dims]] = WeakKeyDictionary()


def note(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Remembers the dims of what ``node`` computes."""
    _dims(ctx, node).update(_computed(node.outputs))


def bounded(ctx: ShapeInferenceContext, node: ir.Node, wanted: ir.SymbolicDim) -> ir.SymbolicDim | None:
    """``wanted``, where it is at least 0 because a tensor that is computed whenever ``node`` is has that dim.

    Or has one more, as a convolution does: a symbolic dim is taken to be at least 1. Spelled as the tensor
    has it, if that is equal.
    """
    for dim in _dims(ctx, node).values():
        if dim.free_symbols() == wanted.free_symbols():
            more = (dim - wanted).simplify().value or ""
            if re.fullmatch(r"-\d+|0|1", more):
                return dim if more == "0" else wanted
    return None


def _dims(ctx: ShapeInferenceContext, node: ir.Node) -> _Dims:
    """At first those of earlier inferences, also behind ``node``: sizes are often counted beforehand."""
    by_graph = _seen.setdefault(ctx, {})
    if node.graph not in by_graph:
        earlier = {n: dim for each in node.graph or () for n, dim in _computed(each.outputs).items()}
        by_graph[node.graph] = {n: dim for n, dim in earlier.items() if not INVENTED.search(n)}
    return by_graph[node.graph]


def _computed(values: Iterable[ir.Value]) -> _Dims:
    return {
        dim.value: dim
        for value in values
        for dim in value.shape or ()
        if isinstance(dim, ir.SymbolicDim) and dim.value and ("//" in dim.value or "floor(" in dim.value)
    }
