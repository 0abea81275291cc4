"""A fingerprint of a model: the graph, and every weight."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import onnx_ir as ir


class SourceHash:
    """sha256 over graph and weights: equal for equal models, whatever process or machine computes it.

    The graph is read at once, since passes will edit the model; the weights, which nobody edits in place,
    when the hash is asked for. They are hashed in parallel, without a copy.
    """

    def __init__(self, model: ir.Model) -> None:
        self._graph = _graph_digest(model)
        self._weights = [(v.name or "", v.const_value) for v in model.graph.initializers.values()]

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        total = hashlib.sha256(self._graph)
        with ThreadPoolExecutor() as pool:
            for digest in pool.map(_weight_digest, self._weights):
                total.update(digest)
        return total.hexdigest()


def _graph_digest(model: ir.Model) -> bytes:
    digest = hashlib.sha256()
    for part in _parts(model):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _parts(model: ir.Model) -> Iterator[bytes]:
    yield repr(sorted(model.opset_imports.items())).encode()
    for value in (*model.graph.inputs, *model.graph.outputs):
        yield ir.serde.serialize_value(value).SerializeToString(deterministic=True)
    for node in model.graph:
        proto = ir.serde.serialize_node(node)
        del proto.metadata_props[:]  # source lines: a comment added to the model's code changes no model
        yield proto.SerializeToString(deterministic=True)
    for identifier in sorted(model.functions):
        yield ir.serde.serialize_function(model.functions[identifier]).SerializeToString(deterministic=True)


def _weight_digest(weight: tuple[str, ir.TensorProtocol | None]) -> bytes:
    name, tensor = weight
    digest = hashlib.sha256(name.encode())
    if tensor is not None:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.dtype == ir.DataType.STRING:
            digest.update(repr(tensor.numpy().tolist()).encode())
        else:
            digest.update(_memory(tensor))
    return digest.digest()


def _memory(tensor: ir.TensorProtocol) -> memoryview | bytes:
    array = tensor.numpy()
    if not array.flags.c_contiguous or tensor.dtype.bitwidth < 8:
        return tensor.tobytes()
    return array.reshape(-1).view("uint8").data
