"""Equal weights are kept once."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

from .editor import Editor

_SAMPLE = 64  # elements that decide whether two tensors are compared in full


def merge_equal_weights(editor: Editor) -> int:
    """Makes readers of equal initializers of a graph read the first of them; returns how many went away."""
    merged = 0
    for graph in editor.model.graphs():
        buckets: dict[Hashable, list[ir.Value]] = {}
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if value.is_graph_input() or value.is_graph_output() or tensor is None or not value.uses():
                continue
            if tensor.dtype == ir.DataType.STRING:
                continue
            candidates = buckets.setdefault((tensor.dtype, tuple(tensor.shape), _sample(tensor)), [])
            first = next((other for other in candidates if _equal(other.const_value, tensor)), None)
            if first is None:
                candidates.append(value)
                continue
            if not editor.trail.open:
                return merged
            readers = [use.node for use in value.uses()]
            editor.trail.replacing([value], [first])
            value.replace_all_uses_with(first)
            assert value.name is not None
            del graph.initializers[value.name]
            editor.trail.applied("equal weights merged", readers)
            editor.enqueue(readers)
            merged += 1
    return merged


def _sample(tensor: ir.TensorProtocol) -> bytes:
    """A few elements from all over the tensor: they tell most unequal tensors apart."""
    flat = tensor.numpy().reshape(-1)
    picks = np.linspace(0, max(flat.size - 1, 0), num=min(_SAMPLE, flat.size)).astype(np.int64)
    return flat[picks].tobytes()


def _equal(a: ir.TensorProtocol | None, b: ir.TensorProtocol) -> bool:
    """Equality of the bits (a NaN equals itself, 0.0 is not -0.0)."""
    if a is b:
        return True
    if a is None:
        return False
    left, right = (np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8) for tensor in (a, b))
    return np.array_equal(left, right)
