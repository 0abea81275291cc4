"""Asks the installed ONNX Runtime whether a model is well typed, without giving it the weights."""

from __future__ import annotations

import re

import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from optc.errors import InvalidModel

_LARGE = 1024  # bytes; smaller tensors may decide shapes, and stay
_VERDICT = re.compile(r"Type Error|\[(Type|Shape)InferenceError\]|INVALID_GRAPH")
_OWN_NODES = "InsertedPrecisionFreeCast"  # what 1.30 puts wrongly around half precision, unoptimized
_REFUSALS = (ort_state.Fail, ort_state.InvalidGraph, ort_state.InvalidArgument, ort_state.RuntimeException)


def check_types(model: ir.Model, where: str) -> None:
    """Raises InvalidModel where ONNX Runtime finds types or shapes that contradict each other.

    What it merely has no kernel for is not the model's fault, and is left to the target.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # nothing is run
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        data = ir.to_proto(_without_weights(model)).SerializeToString()
    except (ir.serde.SerdeError, TypeError, ValueError) as error:
        hint = "a name, an attribute or the documentation is damaged; export the model again"
        raise InvalidModel("the model cannot be written back", where=where, hint=hint) from error
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except ort_state.NotImplemented:
        return
    except _REFUSALS as error:
        text = str(error)
        if _VERDICT.search(text) and _OWN_NODES not in text:
            reason = text.partition(" : FAIL : ")[2] or text
            what = f"ONNX Runtime finds the model invalid: {reason.splitlines()[0][:400]}"
            raise InvalidModel(what, where=where, hint="correct the node or the declared types") from error


def _without_weights(model: ir.Model) -> ir.Model:
    """A copy whose large initializers are inputs of the same type."""
    copy = model.clone()
    inputs = set(copy.graph.inputs)
    for name, value in list(copy.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _LARGE:
            del copy.graph.initializers[name]
            value.const_value = None
            if value not in inputs:
                copy.graph.inputs.append(value)
    return copy
