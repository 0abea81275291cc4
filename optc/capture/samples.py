"""Random sample inputs for a model that comes without examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import npz
from optc.errors import UserError

Feeds = dict[str, Any]  # graph input name -> ndarray, list (sequence) or None (optional)

_BATCH = 2
_EXTENTS = (8, 16, 32, 64, 128, 224)  # tried in turn for dims that are not a batch
_SEQUENCE_LENGTH = 2
_SAMPLE_BYTES = 8  # per element, while it is drawn
# Ops that an index passes through on its way to a lookup without becoming another number.
_PASSES_INDEX = frozenset(
    {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand", "Slice"}
)


def random_feeds(
    model: ir.Model, seed: int, dims: Mapping[str, int] | None = None
) -> tuple[list[Feeds], str]:
    """One random feed for every required input, and a note that says where it comes from.

    A dim name has one value throughout; extents grow until no inferred dim of the model is empty. Floats are
    normal, integers index what they look up and are 1 elsewhere (as in a mask), booleans are True, optionals
    hold a value. The same model and seed give the same feeds. ``dims`` are sizes of named dims that are asked
    for.

    Raises:
        UserError: no input has a dim of that name.
    """
    extents = {**_extents(model), **_known(model, dims or {})}
    rng = np.random.default_rng(seed)
    feeds = {
        value.name or "": _sample(value, value.type, value.shape, extents, rng)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }
    return [feeds], f"random, seed {seed}"


def _extents(model: ir.Model) -> dict[str, int]:
    """A value for every dim name of the inputs, the smallest with which the whole graph has room."""
    batches, others = _dim_names(model)
    computed = _symbolic_dims(model, batches | others)
    bindings: dict[str, int] = {}
    for extent in _EXTENTS:
        bindings = {**dict.fromkeys(sorted(batches), _BATCH), **dict.fromkeys(sorted(others), extent)}
        if not any(_is_empty(dim, bindings) for dim in computed):
            break
    return bindings


def _known(model: ir.Model, dims: Mapping[str, int]) -> Mapping[str, int]:
    names = sorted(set().union(*_dim_names(model)))
    for name, size in dims.items():
        if name not in names or size < 1:
            what = f"no input has a dimension {name!r}" if name not in names else f"{name} cannot be {size}"
            raise UserError(what, where=f"--dim {name}={size}", hint=f"named dimensions: {names or 'none'}")
    return dims


def _dim_names(model: ir.Model) -> tuple[set[str], set[str]]:
    batches: set[str] = set()
    others: set[str] = set()
    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int) or dim.value is None:
                continue
            for name in dim.free_symbols():
                leads = axis == 0 and dim.value == name and len(value.shape or ()) > 1
                (batches if leads or "batch" in name.lower() else others).add(name)
    return batches, others - batches


def _symbolic_dims(model: ir.Model, names: set[str]) -> list[ir.SymbolicDim]:
    """The distinct computed dims that depend on nothing but the named ones."""
    found: dict[str, ir.SymbolicDim] = {}
    for node in model.graph:
        for value in node.outputs:
            for dim in value.shape or ():
                if not isinstance(dim, int) and dim.value is not None:
                    found.setdefault(dim.value, dim)
    return [dim for dim in found.values() if dim.free_symbols() <= names]


def _is_empty(dim: ir.SymbolicDim, bindings: Mapping[str, int]) -> bool:
    size = dim.evaluate(bindings)
    return isinstance(size, int) and size < 1


def _sample(
    value: ir.Value,
    declared: ir.TypeProtocol | None,
    shape: ir.Shape | None,
    extents: Mapping[str, int],
    rng: np.random.Generator,
) -> Any:
    if isinstance(declared, ir.OptionalType):
        return _sample(value, declared.elem_type, shape, extents, rng)
    if isinstance(declared, ir.SequenceType):
        return [_sample(value, declared.elem_type, shape, extents, rng) for _ in range(_SEQUENCE_LENGTH)]
    dtype = ir.DataType.FLOAT if declared is None else declared.dtype
    sizes = tuple(_size(dim, extents) for dim in shape or ())
    _check_size(value, sizes)
    if dtype == ir.DataType.STRING:
        return rng.choice(np.array(["one", "two", "three"], dtype=object), size=sizes)
    if dtype == ir.DataType.BOOL:
        return np.ones(sizes, bool)
    if dtype.is_floating_point():
        return np.asarray(rng.standard_normal(sizes)).astype(dtype.numpy())
    if not dtype.is_integer():  # complex
        return np.asarray(rng.standard_normal(sizes) + 1j * rng.standard_normal(sizes)).astype(dtype.numpy())
    bound = _index_bound(value)
    numbers = np.ones(sizes, np.int64) if bound is None else rng.integers(0, bound, sizes)
    return np.asarray(numbers).astype(dtype.numpy())


def _check_size(value: ir.Value, sizes: tuple[int, ...]) -> None:
    if math.prod(sizes) * _SAMPLE_BYTES > npz.physical_memory():
        what = f"no example can be made of an input of {math.prod(sizes):,} elements"
        hint = "correct the declared shape, or make its large dimensions dynamic"
        raise UserError(what, where=f"input {value.name!r} {list(sizes)}", hint=hint)


def _size(dim: int | ir.SymbolicDim, extents: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    size = dim.evaluate(extents) if dim.value is not None else 1
    return max(1, size) if isinstance(size, int) else 1


def _index_bound(value: ir.Value) -> int | None:
    """The smallest extent that the value indexes into, or None where it is not an index of a known extent."""
    bounds = [bound for lookup, axis in _lookups(value) if (bound := _extent(lookup.inputs[0], axis))]
    return min(bounds, default=None)


def _lookups(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    waiting, seen = [value], {value}
    while waiting:
        for node, index in waiting.pop().uses():
            if index == 1 and node.op_type in ("Gather", "GatherElements") and node.domain == "":
                yield node, node.attributes.get_int("axis", 0)
            elif index == 0 and node.op_type in _PASSES_INDEX and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                waiting.append(node.outputs[0])


def _extent(table: ir.Value | None, axis: int) -> int | None:
    if table is None or table.shape is None or not -len(table.shape) <= axis < len(table.shape):
        return None
    extent = table.shape[axis]
    return extent if isinstance(extent, int) and extent > 0 else None
