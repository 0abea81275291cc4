"""A copy of a model with its named dims set to numbers, so that every shape is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from optc.analysis import shapes
from optc.errors import UserError


@dataclass(frozen=True)
class Concrete:
    """``model`` has the nodes of the original in the same order and shares its weights.

    Attributes:
        bind: size of every named dim of the inputs.
        assumed: the names whose size was not given and was taken as ``default``.
    """

    model: ir.Model
    bind: dict[str, int]
    assumed: tuple[str, ...]


def concrete(model: ir.Model, bind: Mapping[str, int], *, default: int = 1) -> Concrete:
    """Returns a copy with sizes for all named input dims and with the shapes that follow from them.

    Dims that depend on the data stay unknown.

    Raises:
        UserError: ``bind`` names a dim that no input has, or gives it a size below 1.
    """
    copy = model.clone()
    named = _names(copy)
    _check(bind, named)
    sizes = {name: bind.get(name, default) for name in named}
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([_size(dim, sizes, default) for dim in value.shape])
    shapes.infer(copy, fresh=True)
    _drop_symbols(copy)
    return Concrete(copy, sizes, tuple(name for name in named if name not in bind))


def _drop_symbols(model: ir.Model) -> None:
    """What depends on the data has no size, by whatever name inference calls it."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and not value.shape.is_static():
                value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in value.shape])


def _names(model: ir.Model) -> list[str]:
    """Named dims of the inputs, in order of appearance."""
    names: dict[str, None] = {}
    for value in model.graph.inputs:
        for dim in value.shape or ():
            if isinstance(dim, ir.SymbolicDim):
                names.update(dict.fromkeys(sorted(_free(dim))))
    return list(names)


def _free(dim: ir.SymbolicDim) -> frozenset[str]:
    if dim.value is None or dim.value.isidentifier():
        return frozenset() if dim.value is None else frozenset({dim.value})
    try:
        return dim.free_symbols()
    except ValueError:
        return frozenset({dim.value})  # a name that is no expression, such as "0_batch"


def _size(dim: int | ir.SymbolicDim, sizes: Mapping[str, int], default: int) -> int | ir.SymbolicDim:
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return default
    if dim.value in sizes:
        return sizes[dim.value]
    try:
        return dim.evaluate(sizes)
    except ValueError:
        return ir.SymbolicDim(None)


def _check(bind: Mapping[str, int], named: list[str]) -> None:
    for name, size in bind.items():
        if name not in named:
            known = ", ".join(named) or "there are none"
            raise UserError(f"no input has a dim named {name!r}", hint=f"named dims: {known}")
        if size < 1:
            raise UserError(f"the size of a dim is at least 1, not {size}", where=f"dim {name!r}")


def sizes_of(model: ir.Model, feeds: Mapping[str, Any]) -> dict[str, int]:
    """The named dims of the inputs as these feeds have them."""
    sizes: dict[str, int] = {}
    for value in model.graph.inputs:
        array = feeds.get(str(value.name))
        for dim, size in zip(value.shape or (), getattr(array, "shape", ()), strict=False):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes.setdefault(dim.value, int(size))
    return sizes
