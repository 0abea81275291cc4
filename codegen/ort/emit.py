"""Writes a model as ``model.onnx`` and ``model.onnx.data`` that a stock ONNX Runtime loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedOpsetsPass,
)

from optc.codegen.ort import pooled_pads
from optc.codegen.ort.kernels import newest_ir_version
from optc.front_axes import count_from_front
from optc.widen import widen

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"

_KEPT_METADATA = ("optc.source",)  # where in the user's program a node comes from
_INLINE_BYTES = 1024  # smaller tensors stay in the file: shapes and axes are among them
_ONE_FILE_BYTES = 1 << 20  # models with less weights than this get no second file
_PAGE = 4096  # the runtime maps the file: aligned weights are used where they are

# onnx-ir 1.0 takes no wishes: it aligns tensors of a MiB and more.
_TAKES_ALIGNMENT = "alignment" in signature(ir.save).parameters
_ALIGNED: dict[str, Any] = {"alignment": _PAGE, "align_threshold": _INLINE_BYTES} if _TAKES_ALIGNMENT else {}


def emit(model: ir.Model, directory: Path, options: Mapping[str, Any]) -> list[str]:
    """Writes the program into ``directory`` and returns the names of the files that are executed.

    The model is not changed. The bytes depend on nothing but the model. Weights that are mapped from files
    are copied straight from there, one at a time. Types and shapes of all values stay (MiniLM-L6: 10 KB of
    90 MB, no time at load): viewers and ``optc inspect`` show them, and the runtime's optimizer reads them
    where its own inference stops.
    """
    written = model.clone()
    widen(written, ir.DataType.BFLOAT16)  # the runtime can cast it, and little else
    pooled_pads.keep_apart(written)
    count_from_front(written)
    LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=_INLINE_BYTES // 4)(written)
    RemoveUnusedFunctionsPass()(written)  # type: ignore[no-untyped-call]
    _import_domains(written)
    RemoveUnusedOpsetsPass()(written)
    written.ir_version = newest_ir_version()
    written.producer_name, written.producer_version, written.doc_string = "optc", None, None
    _strip(written)
    _order_weights(written.graph)
    total = sum(tensor.nbytes for tensor in _tensors(written))
    _map_tensors(written)
    if total <= _ONE_FILE_BYTES:
        ir.save(written, directory / MODEL)
        return [MODEL]
    ir.save(
        written,
        directory / MODEL,
        external_data=WEIGHTS,
        size_threshold_bytes=_INLINE_BYTES,
        **_ALIGNED,
    )
    return [MODEL, WEIGHTS]


def _import_domains(model: ir.Model) -> None:
    """Imports the domains of the operators in use that the model does not import yet."""
    domains = {node.domain for node in model.graph.all_nodes()} - {"", "ai.onnx"}
    for domain in sorted(domains):
        model.opset_imports.setdefault(domain, 1)


def _strip(model: ir.Model) -> None:
    """Leaves out what nobody needs to run or read the program."""
    _keep_metadata(model.metadata_props)
    for graph in model.graphs():
        graph.doc_string = None
        _keep_metadata(graph.metadata_props)
        for value in (*graph.inputs, *graph.initializers.values()):
            value.doc_string = None
            _keep_metadata(value.metadata_props)
        for node in graph:
            node.doc_string = None
            _keep_metadata(node.metadata_props)
            for value in node.outputs:
                value.doc_string = None
                _keep_metadata(value.metadata_props)


def _keep_metadata(properties: dict[str, str]) -> None:
    kept = {key: properties[key] for key in _KEPT_METADATA if key in properties}
    properties.clear()
    properties.update(kept)


def _order_weights(graph: ir.Graph) -> None:
    """Weights lie in the file as execution needs them."""
    read = (value for node in graph.all_nodes() for value in node.inputs if value is not None)
    first = dict.fromkeys(v for v in read if v.graph is graph and v.is_initializer())
    rest = sorted((v for v in graph.initializers.values() if v not in first), key=lambda v: str(v.name))
    graph.initializers.clear()
    for value in (*first, *rest):
        graph.register_initializer(value)


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value


def _map_tensors(model: ir.Model) -> None:
    """Replaces references to files by views of those files, mapped now.

    The program must refer to nothing outside its folder. And a tensor that was never read would be looked
    for by path later on, where by then this program may lie.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _view(value.const_value)
    in_functions = (node for function in model.functions.values() for node in function.all_nodes())
    for node in (*model.graph.all_nodes(), *in_functions):
        for name, attribute in list(node.attributes.items()):
            if isinstance(attribute.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _view(attribute.value))


def _view(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
