"""Open an `onnx_ir.Model` in ONNX Runtime with its weights by reference, and run it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from optc.errors import UserError
from optc.front_axes import count_from_front, counts_from_back
from optc.ort_errors import ORT_ERRORS as ORT_ERRORS
from optc.ortvalues import has_numpy_type, to_numpy, to_ortvalue

# Smaller tensors stay in the model: shapes and axes live in them, and shape inference must read those.
INLINE_BYTES = 1024

# What a protobuf message can hold.
_MAX_PROTO_BYTES = 2**31 - 1

# The file that detached weights refer to, and the option that says where it is looked for.
_REFERENCE = "in-memory"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

# Types whose memory is not an array of numbers, or that ONNX Runtime does not take from numpy.
_KEPT_TYPES = frozenset(
    {ir.DataType.STRING, ir.DataType.UNDEFINED, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128}
)


def open_session(
    model_or_path: ir.Model | str | os.PathLike[str],
    *,
    threads: int | None = None,
    optimize: bool = True,
    options: Mapping[str, Any] | None = None,
) -> ort.InferenceSession:
    """Opens a CPU session.

    The weights of an `ir.Model` are used where they are (torch memory, a mapped file), for as long as the
    session lives; the model itself is not touched. With ``optimize`` ONNX Runtime holds a second copy while
    it opens, and keeps prepacked copies of matrix weights.

    Args:
        threads: size of the intra-op pool; None is ONNX Runtime's default, one per core.
        optimize: False switches off every optimization and prepacking: the reference semantics, and the
            least memory.
        options: ``SessionOptions`` attributes, or configuration entries (the keys with a dot).

    Raises:
        UserError: the model without its weights is larger than protobuf allows.
        Exception: whatever ONNX Runtime says of a model that it cannot load.
    """
    session_options = _session_options(threads, optimize, options or {})
    if not isinstance(model_or_path, ir.Model):
        return _new_session(os.fspath(model_or_path), session_options)
    weights: dict[str, ort.OrtValue] = {}

    def by_reference(tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
        weights[name] = to_ortvalue(tensor.numpy(), int(tensor.dtype))
        return reference(tensor, name, _REFERENCE, 0)

    content = detach(model_or_path, by_reference)
    for name, value in weights.items():
        session_options.add_initializer(name, value)  # makes the session use our memory
    if not weights:
        return _new_session(content, session_options)
    if optimize:
        # Makes the optimizer see the values too; ONNX Runtime 1.31 copies all of them for that.
        session_options.add_external_initializers(list(weights), list(weights.values()))
        session = _new_session(content, session_options)
    else:
        with _stand_in(weights) as folder:
            session_options.add_session_config_entry(_WEIGHTS_FOLDER, folder)
            session = _new_session(content, session_options)
    session.weights_in_use = weights  # ONNX Runtime has only pointers; these keep the arrays alive
    return session


def open_detached(
    content: bytes, folder: Path, *, threads: int | None = None, options: Mapping[str, Any] | None = None
) -> ort.InferenceSession:
    """Opens a CPU session of a model whose weights lie in files of ``folder``; ONNX Runtime maps them.

    It holds no copy of the weights but the prepacked ones.
    """
    session_options = _session_options(threads, True, options or {})
    session_options.add_session_config_entry(_WEIGHTS_FOLDER, os.fspath(folder))
    return _new_session(content, session_options)


def run_session(session: ort.InferenceSession, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Runs once; values by name: ndarrays (of `ml_dtypes` where numpy lacks the type), lists, or None."""
    outputs = session.get_outputs()
    if all(has_numpy_type(arg.type) for arg in (*session.get_inputs(), *outputs)):
        results = session.run(None, dict(feeds))
    else:
        types = {arg.name: arg.type for arg in session.get_inputs()}
        values = {name: to_ortvalue(value, types[name]) for name, value in feeds.items()}
        results = [to_numpy(value) for value in session.run_with_ort_values(None, values)]
    return {arg.name: result for arg, result in zip(outputs, results, strict=True)}


def _session_options(threads: int | None, optimize: bool, options: Mapping[str, Any]) -> ort.SessionOptions:
    result = ort.SessionOptions()
    result.log_severity_level = 4  # failures come as exceptions; they need not be printed as well
    if threads is not None:
        result.intra_op_num_threads = threads
    if not optimize:
        result.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        result.enable_cpu_mem_arena = False
        result.add_session_config_entry("session.disable_prepacking", "1")
    for key, value in options.items():
        if "." in key:
            result.add_session_config_entry(key, str(value))
        else:
            setattr(result, key, value)
    return result


def _new_session(content: str | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def detach(model: ir.Model, place: Callable[[ir.TensorProtocol, str], ir.ExternalTensor]) -> bytes:
    """The serialized model without its large weights.

    Args:
        place: given a weight and its name, says where the session finds it.

    Raises:
        UserError: the model without its weights is larger than protobuf allows.
    """
    heavy = any(isinstance(tensor, ir.ExternalTensor) or _is_detachable(tensor) for tensor in _tensors(model))
    if not heavy and not counts_from_back(model):
        return _serialized(model)
    bare = model.clone()  # graph and nodes are new, tensors are shared
    count_from_front(bare)
    _drop_unused_initializers(bare.graph)
    _hoist_large_initializers(bare)
    detached = set()
    for value, tensor in _main_constants(bare.graph):
        name = value.name or ""
        detached.add(name)
        _set_constant(value, place(tensor, name))
    _load_external_tensors(bare, detached)
    return _serialized(bare)


def _serialized(model: ir.Model) -> bytes:
    proto = ir.to_proto(model)
    if proto.ByteSize() > _MAX_PROTO_BYTES:
        raise UserError("the model is over 2 GB even without its weights, more than ONNX Runtime takes")
    content: bytes = proto.SerializeToString()
    return content


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """All constants of a model: initializers, and attributes of nodes."""
    for graph in (model.graph, *model.graph.subgraphs()):
        values = graph.initializers.values()
        yield from (value.const_value for value in values if value.const_value is not None)
    functions = (function.all_nodes() for function in model.functions.values())
    for node in chain(model.graph.all_nodes(), *functions):
        for attr in node.attributes.values():
            if attr.type == ir.AttributeType.TENSOR and not attr.is_ref():
                yield attr.as_tensor()


def _drop_unused_initializers(graph: ir.Graph) -> None:
    """ONNX Runtime drops them before it looks for the values given by reference, and then misses them."""
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
            del graph.initializers[name]


def _main_constants(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """The large constants of the main graph: its initializers, and the outputs of its Constant nodes."""
    for value in graph.initializers.values():
        if value.const_value is not None and not value.is_graph_input() and _is_detachable(value.const_value):
            yield value, value.const_value
    for node in graph:
        if node.op_type == "Constant" and node.domain == "" and (attr := node.attributes.get("value")):
            tensor = attr.as_tensor()
            if node.outputs[0].uses() and _is_detachable(tensor):
                yield node.outputs[0], tensor


def _set_constant(value: ir.Value, tensor: ir.TensorProtocol) -> None:
    node = value.producer()
    if node is None:
        value.const_value = tensor
    else:  # ONNX Runtime turns a Constant node into an initializer of the same name when it loads
        node.attributes["value"] = ir.AttrTensor("value", tensor)


def _is_detachable(tensor: ir.TensorProtocol) -> bool:
    """Large, and of a type whose elements are whole bytes: the numpy form of the others is unpacked."""
    if tensor.dtype in _KEPT_TYPES or tensor.dtype.bitwidth < 8:
        return False
    return tensor.nbytes > INLINE_BYTES


@contextlib.contextmanager
def _stand_in(weights: Mapping[str, ort.OrtValue]) -> Iterator[str]:
    """A folder with the file that the references name: ONNX Runtime checks its size, and reads none of it."""
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        with (Path(folder) / _REFERENCE).open("wb") as file:
            file.truncate(max((value.tensor_size_in_bytes() for value in weights.values()), default=0))
        yield folder


def reference(tensor: ir.TensorProtocol, name: str, file: str, offset: int) -> ir.ExternalTensor:
    """A tensor that serializes as a reference into a file; the file is not opened for that."""
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(file, offset, tensor.nbytes, tensor.dtype, shape=shape, name=name)


def _hoist_large_initializers(model: ir.Model) -> None:
    """Moves large initializers of subgraphs to the main graph: only there can they be given by reference."""
    hoisted = 0
    for graph in model.graph.subgraphs():
        if graph is model.graph:
            continue
        for name, value in list(graph.initializers.items()):
            if value.is_graph_input() or value.is_graph_output():
                continue
            if value.const_value is None or not _is_detachable(value.const_value):
                continue
            del graph.initializers[name]
            value.name = f"hoisted.{hoisted}/{name}"
            model.graph.register_initializer(value)
            hoisted += 1


def _load_external_tensors(model: ir.Model, detached: set[str]) -> None:
    """Puts what stays in the model (small, packed, in a body) into it: bytes have no folder to refer to."""
    for graph in (*model.graph.subgraphs(), model.graph):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and value.name not in detached:
                value.const_value = _loaded(value.const_value)
    functions = [function.all_nodes() for function in model.functions.values()]
    for node in chain(model.graph.all_nodes(), *functions):
        for name, attr in list(node.attributes.items()):
            if attr.is_ref() or attr.type != ir.AttributeType.TENSOR:
                continue
            tensor = attr.as_tensor()
            if isinstance(tensor, ir.ExternalTensor) and node.outputs[0].name not in detached:
                node.attributes[name] = ir.AttrTensor(name, _loaded(tensor))


def _loaded(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
