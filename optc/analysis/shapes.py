"""Types and symbolic shapes of every value, and the integers that small shape tensors hold.

Wraps `onnx_shape_inference` so that no valid model makes it fail, overridable inputs are not taken for
constants, and declared shapes that the graph contradicts are dropped. Limits: a symbolic dim is taken to be
at least 1; a dim that depends on data is a fresh symbol (``_d0``...); a value whose rank nobody can infer is
marked, see `is_marked_unknown`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_shape_inference import SYM_DATA_KEY, OpUsageError, ShapeInferenceError, infer_symbolic_shapes

from optc.analysis import shape_rules

INTS_KEY = "optc.ints"  # value meta: known contents of an integer tensor, ints and expression strings
UNKNOWN_KEY = "optc.unknown"  # value meta: inference cannot know the type or rank

_log = logging.getLogger(__name__)
_FAILURES = (OpUsageError, ShapeInferenceError, ValueError)


def infer(model: ir.Model, *, fresh: bool = False) -> None:
    """Fills in the types and shapes of all values, in place.

    Known shapes are refined. With ``fresh``, or where the graph contradicts a known shape, the shapes of all
    computed values are forgotten and inferred anew: a pass that changes an extent asks for this.
    Never raises for a model that ONNX Runtime runs; where the library gives up, values stay marked unknown.
    """
    shape_rules.install()
    _name_dims(model)
    with _only_true_constants(model):
        if fresh or not _attempt(model, "strict"):
            forget(model)
            if not _attempt(model, "refine"):
                _log.warning("shape inference stopped early; the passes skip what has no shape")
    _collect_notes(model)


def forget(model: ir.Model) -> None:
    """Drops the shapes of all computed values, but keeps those declared for graph outputs (the interface)."""
    for graph in (model.graph, *model.graph.subgraphs()):
        declared = set(graph.outputs) if graph is model.graph else set()
        for node in graph:
            for value in node.outputs:
                if value not in declared:
                    value.shape = None


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor that a value holds in every run: an initializer that no input overrides, or a Constant."""
    if value is None or value.is_graph_input():
        return None
    producer = value.producer()
    if producer is not None and (producer.op_type != "Constant" or "sparse_value" in producer.attributes):
        return None
    return ir.convenience.get_const_tensor(value)


def constant_ints(value: ir.Value | None) -> tuple[int | str, ...] | None:
    """What an integer tensor of rank 0 or 1 holds, flattened, or None where it is not known.

    Elements that depend on input dims are expressions over their names (str, as in `ir.SymbolicDim`). What is
    computed comes from the last `infer`.
    """
    if value is None:
        return None
    tensor = constant_tensor(value)
    if tensor is None:
        return value.meta.get(INTS_KEY)
    if not tensor.dtype.is_integer() or len(tensor.shape) > 1:
        return None
    return tuple(int(x) for x in tensor.numpy().reshape(-1))


def is_marked_unknown(value: ir.Value) -> bool:
    """Whether inference tried and could not find the type or the rank of the value."""
    return bool(value.meta.get(UNKNOWN_KEY))


def _attempt(model: ir.Model, policy: str) -> bool:
    try:
        infer_symbolic_shapes(model, policy=policy, warn_on_missing=False, adopt_declared_symbols=False)
    except _FAILURES as error:
        _log.debug("shape inference (%s): %s (%s)", policy, error, error.__cause__)
        return False
    return True


@contextmanager
def _only_true_constants(model: ir.Model) -> Iterator[None]:
    """Hides the default values of overridable inputs: a caller may feed something else."""
    hidden = {value: value.const_value for value in model.graph.inputs if value.const_value is not None}
    for value in hidden:
        value.const_value = None
    try:
        yield
    finally:
        for value, tensor in hidden.items():
            value.const_value = tensor


def _collect_notes(model: ir.Model) -> None:
    """Moves the library's notes off what is serialized, and marks what it could not infer."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.pop(SYM_DATA_KEY, None)
            _mark(value)
        for node in graph:
            for value in node.outputs:
                _note_ints(value)
                _mark(value)
    for function in model.functions.values():
        for node in function.all_nodes():
            for value in node.outputs:
                _note_ints(value)


def _note_ints(value: ir.Value) -> None:
    value.const_value = None  # a copy of the note that would go stale when the producer is edited
    note = value.metadata_props.pop(SYM_DATA_KEY, None)
    if note is None or value.dtype is None or not value.dtype.is_integer() or len(value.shape or ()) > 1:
        value.meta.pop(INTS_KEY, None)
    else:
        value.meta[INTS_KEY] = tuple(json.loads(note))


def _mark(value: ir.Value) -> None:
    known = value.type is not None and (value.shape is not None or not isinstance(value.type, ir.TensorType))
    if known:
        value.meta.pop(UNKNOWN_KEY, None)
    else:
        value.meta[UNKNOWN_KEY] = True


def _name_dims(model: ir.Model) -> None:
    """Gives dims whose names do not parse (``0_batch``, ``my dim``) names that can be calculated with."""
    renamed: dict[str, str] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        computed = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.initializers.values(), *computed):
            if value.shape is None or value.shape.is_static():
                continue
            dims = [_named(dim, renamed) for dim in value.shape]
            if dims != list(value.shape):
                value.shape = ir.Shape(dims)


def _named(dim: int | ir.SymbolicDim, renamed: dict[str, str]) -> int | ir.SymbolicDim:
    if isinstance(dim, int) or dim.value is None or dim.value.isidentifier():
        return dim
    if dim.value not in renamed:
        taken = set(renamed.values())
        renamed[dim.value] = dim.value if _is_expression(dim) else _identifier(dim.value, taken)
    return ir.SymbolicDim(renamed[dim.value])


def _is_expression(dim: ir.SymbolicDim) -> bool:
    try:
        return bool(dim.free_symbols())
    except ValueError:
        return False


def _identifier(name: str, taken: set[str]) -> str:
    plain = re.sub(r"\W", "_", name)
    plain = plain if plain.isidentifier() else f"_{plain}"
    while plain in taken:
        plain += "_"
    return plain
