"""Which input shapes the gate measures: a small single, a larger single and a batch, of what is dynamic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.passbase import Feeds

RANGES = "optc.dims"  # metadata of a captured model: {dim name: [min, max or null]}
AS_GIVEN = "as given"

# Where the user says nothing: a batch that keeps a small machine busy, and a length (tokens, frames) at which
# the work is in the kernels rather than between them.
_BATCH, _LENGTH = 8, 128


def feeds_by_shape(
    model: ir.Model, example: Feeds, sizes: Sequence[Mapping[str, int]] | None = None
) -> dict[str, Feeds]:
    """Feeds to measure with, by a label such as ``batch=1 seq=128``, smallest first.

    Args:
        model: its inputs name the dims of their axes; ``optc.dims`` in its metadata gives their ranges.
        example: feeds of one size; other sizes repeat or cut its rows, so that values stay plausible.
        sizes: the sizes to measure, by dim name; None chooses them.
    """
    given = {name: size for name, size, _ in _named_dims(model, example)}
    if not given:
        return {AS_GIVEN: dict(example)}
    chosen = sizes if sizes is not None else _choose(model, example, given)
    return {_label(size): _resized(model, example, {**given, **size}) for size in chosen}


def middle(shapes: Iterable[str]) -> str:
    """The shape whose milliseconds stand in the ledger: the one in the middle of the list."""
    labels = list(shapes)
    return labels[(len(labels) - 1) // 2]


def _named_dims(model: ir.Model, example: Feeds) -> Iterator[tuple[str, int, int]]:
    """(dim name, its size in the example, axis) of every input axis with a name of its own."""
    for value in model.graph.inputs:
        array = example.get(value.name or "")
        if value.shape is None or not isinstance(array, np.ndarray) or array.ndim != len(value.shape):
            continue
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None and dim.value.isidentifier():
                yield dim.value, array.shape[axis], axis


def _choose(model: ir.Model, example: Feeds, given: Mapping[str, int]) -> list[dict[str, int]]:
    axes: dict[str, set[int]] = {}
    for name, _, axis in _named_dims(model, example):
        axes.setdefault(name, set()).add(axis)
    batch = {name for name, found in axes.items() if found == {0}}
    ranges = json.loads(model.metadata_props.get(RANGES, "{}"))

    def sized(count: int | None, length: int | None) -> dict[str, int]:
        wish = {name: count if name in batch else length for name in given}
        return {
            name: given[name] if (size := wish[name]) is None else _within(size, ranges.get(name))
            for name in given
        }

    largest_batch = max([_BATCH, *(given[name] for name in batch)])
    lengths = [given[name] for name in given if name not in batch]
    longer = None if not lengths or max(lengths) >= _LENGTH else _LENGTH
    found = [sized(1, None), sized(1, longer), sized(largest_batch, longer)]
    return [size for number, size in enumerate(found) if size not in found[:number]]


def _within(size: int, bounds: Any) -> int:
    """``size`` moved into the range of the dim.

    torch.export assumes sizes of at least 2 and says so of models that run at 1: that bound is not believed.
    """
    low, high = bounds if isinstance(bounds, list) and len(bounds) == 2 else (1, None)
    size = max(size, low if isinstance(low, int) and low > 2 else 1)
    return min(size, high) if isinstance(high, int) else size


def _label(size: Mapping[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in size.items())


def _resized(model: ir.Model, example: Feeds, size: Mapping[str, int]) -> Feeds:
    feeds = dict(example)
    for value in model.graph.inputs:
        name = value.name or ""
        array = feeds.get(name)
        if value.shape is None or not isinstance(array, np.ndarray) or array.ndim != len(value.shape):
            continue
        for axis, dim in enumerate(value.shape):
            wanted = size.get(str(dim.value)) if isinstance(dim, ir.SymbolicDim) else None
            if wanted is not None and array.shape[axis]:
                array = array.take(np.arange(wanted) % array.shape[axis], axis=axis)
        feeds[name] = np.ascontiguousarray(array)
    return feeds
