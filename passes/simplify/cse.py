"""Common subexpressions: equal nodes of one graph compute once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import onnx_ir as ir

from optc.rewrite import DOMAIN

from .editor import Editor
from .random_ops import is_pure

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", DOMAIN})
_PLAIN = frozenset(
    {
        *(ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING),
        *(ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS),
    }
)


def merge_equal_nodes(editor: Editor) -> int:
    """Merges nodes with equal operator, inputs and attributes, graph by graph; returns how many went away."""
    merged = 0
    for graph in list(editor.model.graphs()):
        seen: dict[Hashable, ir.Node] = {}
        for node in list(graph):
            key = key_of(node) if node.inputs else None
            if key is None or node.graph is None:
                continue
            if not editor.trail.open:
                return merged
            first = seen.setdefault(key, node)
            if first is node:
                continue
            merged += 1
            for old, new in zip(list(node.outputs), first.outputs, strict=True):
                if old.uses() or old.is_graph_output():
                    editor.replace(old, new)
            editor.trail.applied("equal nodes merged", [node])
    return merged


def key_of(node: ir.Node) -> Hashable | None:
    """What two nodes share exactly when they compute the same; None for a node that must stay alone."""
    if node.domain not in _DOMAINS or not is_pure(node) or node.op_type == "Identity":
        return None  # an Identity that is left has a reason: it names an output
    attributes = []
    for name in sorted(node.attributes):
        item = _attribute_key(node.attributes[name])
        if item is None:
            return None
        attributes.append((name, item))
    present = tuple(bool(output.name) for output in node.outputs)
    inputs = tuple(id(value) for value in node.inputs)
    return node.op_identifier(), inputs, tuple(attributes), present


def _attribute_key(attribute: ir.Attr) -> Hashable | None:
    if attribute.is_ref():
        return ("ref", attribute.ref_attr_name)
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.dtype == ir.DataType.STRING:
            return None
        return (tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
    if attribute.type in _PLAIN:
        return (attribute.type, repr(attribute.value))  # 0.0 and -0.0 are equal, their texts are not
    return None
