"""Models in half precision, on a target whose kernels compute in float32.

Such a target converts around every run of operators, and what it fuses it fuses in float32. So the model is
brought to float32 before any pass sees it; its inputs, its outputs and its weights in the file keep their
types. Operators then round to 24 bits where those of the model round to 11 or 8.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import onnx_ir as ir

from optc import match
from optc.difference import EXACT_TOLERANCE
from optc.storage import STORAGE
from optc.subgraphs import subgraphs
from optc.target import Target
from optc.widen import widen

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

# What hands values on without arithmetic.
_MOVES = frozenset(
    {"Cast", "CastLike", "BitCast", "Constant", "ConstantOfShape", "Identity", "If", "Loop", "Scan"}
)
_NESTED = frozenset({"If", "Loop", "Scan"})


def computes_in(model: ir.Model) -> dict[ir.DataType, int]:
    """The types of half precision in which operators of the model compute, and how many of them do."""
    found = Counter(
        kind
        for node in model.graph.all_nodes()
        if node.op_type not in _MOVES
        for kind in {value.dtype for value in node.outputs if value.dtype in HALVES}
    )
    return {kind: found[kind] for kind in HALVES if found[kind]}


def in_single(model: ir.Model, target: Target) -> ir.Model | None:
    """A copy that computes in float32 instead; None where there is nothing to do, or it cannot be done.

    Sequences, and functions of the model's own, keep it as it is.
    """
    halves = [kind for kind in computes_in(model) if kind not in target.precisions]
    if not halves or model.functions or any(_is_container(value, halves) for value in _values(model)):
        return None
    copy = model.clone()
    for graph in (copy.graph, *copy.graph.subgraphs()):
        for value in list(graph.initializers.values()):
            _widen_weight(value, halves)
        for node in graph:
            if node.op_type == "Constant":
                _widen_constant(node, halves)
    for kind in halves:
        widen(copy, kind)
        _forget_rounding(copy, kind)
    copy.metadata_props.setdefault(STORAGE, max(halves, key=computes_in(model).__getitem__).name)
    return copy


def tolerances(model: ir.Model) -> dict[str, float]:
    """What rewrites may move outputs by whose own type does not tell: they are computed in half precision.

    By name of the output; relative, as in `EXACT_TOLERANCE`.
    """
    coarse = coarse_values(model)
    return {str(value.name): coarse[value] for value in model.graph.outputs if value in coarse}


def coarse_values(model: ir.Model) -> dict[ir.Value, float]:
    """The same of every value of the main graph.

    The runtime rounds to half precision only what somebody else reads, so two runs of the same may differ.
    """
    if not computes_in(model):
        return {}
    coarse: dict[ir.Value, float] = {}
    for node in model.graph:
        graphs = [graph for _, graph in subgraphs(node)]
        inside = [node, *(each for graph in graphs for each in graph.all_nodes())]
        read = [value for each in inside for value in each.inputs if value is not None]
        made = [value.dtype for each in inside if each.op_type not in _MOVES for value in each.outputs]
        found = [coarse.get(value, 0.0) for value in read]
        found += [EXACT_TOLERANCE[kind] for kind in made if kind in HALVES]
        if worst := max(found, default=0.0):
            coarse.update(dict.fromkeys(node.outputs, worst))
    return coarse


def _values(model: ir.Model) -> list[ir.Value]:
    made = [value for node in model.graph.all_nodes() for value in node.outputs]
    return [*model.graph.inputs, *made]


def _is_container(value: ir.Value, halves: list[ir.DataType]) -> bool:
    return value.type is not None and not isinstance(value.type, ir.TensorType) and value.dtype in halves


def _widen_weight(value: ir.Value, halves: list[ir.DataType]) -> None:
    tensor = value.const_value
    if tensor is None or tensor.dtype not in halves or not _is_private(value):
        return
    value.const_value = ir.LazyTensor(
        partial(_widened, tensor), ir.DataType.FLOAT, ir.Shape(tensor.shape.numpy()), name=value.name
    )
    value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_constant(node: ir.Node, halves: list[ir.DataType]) -> None:
    value = node.outputs[0]
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype not in halves or not _is_private(value):
        return
    node.attributes.clear()
    node.attributes["value"] = ir.AttrTensor("value", _widened(tensor))
    value.type = ir.TensorType(ir.DataType.FLOAT)
    value.const_value = None


def _is_private(value: ir.Value) -> bool:
    """Whether only operators that follow the type of their input read a value."""
    if value.is_graph_input() or value.is_graph_output():
        return False
    return not any(node.op_type in _NESTED or node.op_type == "BitCast" for node in value.consumers())


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32))


def _forget_rounding(model: ir.Model, kind: ir.DataType) -> None:
    """Takes casts of float32 to ``kind`` and back away."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in list(graph):
            source = node.inputs[0] if match.is_op(node, "Cast") else None
            if source is None or source.dtype != ir.DataType.FLOAT or node.outputs[0].dtype != kind:
                continue
            for back in list(node.outputs[0].consumers()):
                if match.is_op(back, "Cast") and back.outputs[0].dtype == ir.DataType.FLOAT:
                    _bypass(back, source)
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                graph.remove(node, safe=True)


def _bypass(cast: ir.Node, source: ir.Value) -> None:
    if cast.outputs[0].is_graph_output():
        cast.replace_input_with(0, source)
        return
    cast.outputs[0].replace_all_uses_with(source)
    if cast.graph is not None:
        cast.graph.remove(cast, safe=True)
