"""Dynamic dimensions: from what the user wrote to torch, and from torch's symbols back to names."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from torch.export import Dim
from torch.utils import _pytree

from optc.errors import UserError

from .arguments import Call

RANGES = "optc.dims"  # metadata: {dim name: [min, max or null]}


def for_torch(dynamic_shapes: Any, call: Call, module: torch.nn.Module) -> dict[str, Any] | None:
    """``dynamic_shapes`` in the form keyed by every parameter of the call.

    Names (str) become `Dim`: the same name is the same size. Parameters that are not mentioned are static.

    Raises:
        UserError: it names a parameter that the call does not have, or is no such specification.
    """
    if dynamic_shapes is None:
        return None
    if isinstance(dynamic_shapes, torch.export.ShapesCollection):
        collected: Any = dynamic_shapes
        dynamic_shapes = collected.dynamic_shapes(module, call.args, call.kwargs)
    by_name = _by_parameter(dynamic_shapes, call)
    named: dict[str, Any] = {}
    shapes = {name: _dims(by_name.get(name), named) for name in call.bound}
    _check_axes(shapes, call)
    return shapes


def leaf_specs(dynamic_shapes: dict[str, Any] | None, call: Call) -> list[Any]:
    """Per leaf of the arguments, in torch's order, what was specified for its axes; empty without any."""
    if dynamic_shapes is None:
        return []
    return [_at(dynamic_shapes, path) for path, _ in _pytree.tree_leaves_with_path(call.bound)]


def axes(spec: Any) -> Iterable[tuple[int, Any]]:
    """(axis, dim) of the specification of one tensor, a dict or a sequence."""
    if isinstance(spec, Mapping):
        return spec.items()
    return enumerate(spec) if isinstance(spec, (tuple, list)) else ()


def symbol_names(inputs: Iterable[tuple[str, Any, Any]]) -> dict[str, str]:
    """Torch symbol -> name: the user's where given, else ``<input>_dim_<axis>`` of its first place.

    Args:
        inputs: (input name, its fake tensor or symbolic number, specification of its axes).
    """
    names: dict[str, str] = {}
    inputs = list(inputs)
    for _, fake, spec in inputs:
        for axis, dim in axes(spec) if isinstance(fake, torch.Tensor) else ():
            symbol = _symbol(fake.shape[axis])
            if symbol and isinstance(dim, Dim):
                names.setdefault(symbol, getattr(dim, "root", dim).__name__)
    taken = set(names.values())
    for input_name, fake, _ in inputs:
        is_tensor = isinstance(fake, torch.Tensor)
        for axis, size in enumerate(fake.shape if is_tensor else (fake,)):
            symbol = _symbol(size)
            if symbol and symbol not in names:
                name = f"{input_name}_dim_{axis}" if is_tensor else input_name
                names[symbol] = f"{name}_" if name in taken else name
    return names


def rename(model: ir.Model, names: Mapping[str, str], ranges: Mapping[Any, Any]) -> None:
    """Puts names in the place of torch's symbols everywhere, and the known ranges into the metadata."""
    if names:
        pattern = re.compile(r"\b(" + "|".join(sorted(names, key=len, reverse=True)) + r")\b")
        known: dict[str, str] = {}
        for value in _values(model):
            if value.shape is not None and not value.shape.is_static():
                value.shape = ir.Shape([_renamed(dim, pattern, names, known) for dim in value.shape])
    bounds = {names[str(s)]: _bounds(r) for s, r in ranges.items() if str(s) in names}
    if bounds:
        model.metadata_props[RANGES] = json.dumps(dict(sorted(bounds.items())))


def _by_parameter(dynamic_shapes: Any, call: Call) -> dict[str, Any]:
    if isinstance(dynamic_shapes, (tuple, list)):
        if len(dynamic_shapes) != len(call.bound):
            what = f"dynamic_shapes has {len(dynamic_shapes)} entries for {len(call.bound)} arguments"
            raise UserError(
                what, where=f"arguments {', '.join(call.bound)}", hint="use None for a static one"
            )
        return dict(zip(call.bound, dynamic_shapes, strict=True))
    if not isinstance(dynamic_shapes, Mapping):
        what = f"dynamic_shapes is a {type(dynamic_shapes).__name__}"
        raise UserError(what, hint='write {"parameter": {axis: "name"}}, or a tuple in argument order')
    by_name = dict(dynamic_shapes)
    variadic = [p.name for p in call.forward.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    for name in [n for n in by_name if n not in call.bound]:
        if not variadic or name not in call.bound.get(variadic[0], {}):
            hint = f"the arguments are {', '.join(call.bound)}"
            raise UserError(
                f"dynamic_shapes names {name!r}, which is no argument", where="dynamic_shapes", hint=hint
            )
        spec = dict.fromkeys(call.bound[variadic[0]]) | (by_name.get(variadic[0]) or {})
        by_name[variadic[0]] = spec | {name: by_name.pop(name)}
    return by_name


def _check_axes(shapes: dict[str, Any], call: Call) -> None:
    for path, leaf in _pytree.tree_leaves_with_path(call.bound):
        rank = leaf.dim() if isinstance(leaf, torch.Tensor) else 0
        for axis, _ in axes(_at(shapes, path)) if isinstance(leaf, torch.Tensor) else ():
            if not isinstance(axis, int) or not -rank <= axis < rank:
                what = f"dynamic_shapes names axis {axis!r} of an input of shape {list(leaf.shape)}"
                hint = f"axes are 0 to {rank - 1}" if rank else "a number has no axes"
                where = f"dynamic_shapes{_pytree.keystr(path)}"
                raise UserError(what, where=where, hint=hint)


def _dims(spec: Any, named: dict[str, Any]) -> Any:
    if isinstance(spec, str):
        if not spec.isidentifier():
            hint = "use letters, digits and underscores"
            raise UserError(f"{spec!r} is no name for a dimension", where="dynamic_shapes", hint=hint)
        return named.setdefault(spec, Dim(spec))
    if isinstance(spec, Dim):
        return named.setdefault(spec.__name__, spec) if type(spec) is Dim else spec
    if isinstance(spec, Mapping):
        return {key: _dims(item, named) for key, item in spec.items()}
    if isinstance(spec, (tuple, list)):
        return type(spec)(_dims(item, named) for item in spec)
    return spec


def _at(spec: Any, path: Iterable[Any]) -> Any:
    for entry in path:
        key = next(getattr(entry, field) for field in ("key", "idx", "name") if hasattr(entry, field))
        if isinstance(spec, Mapping):
            spec = spec.get(key)
        elif isinstance(spec, (tuple, list)) and isinstance(key, int) and key < len(spec):
            spec = spec[key]
        else:
            spec = getattr(spec, str(key), None)
    return spec


def _symbol(size: Any) -> str | None:
    """The only symbol of a size: of ``2*s0`` it is s0. None for a constant, or several symbols."""
    if not isinstance(size, torch.SymInt):
        return None
    symbols = size.node.expr.free_symbols
    return str(next(iter(symbols))) if len(symbols) == 1 else None


def _renamed(
    dim: int | ir.SymbolicDim, pattern: re.Pattern[str], names: Mapping[str, str], known: dict[str, str]
) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    if dim.value not in known:
        known[dim.value] = pattern.sub(lambda match: names[match.group(1)], dim.value)
    return known[dim.value]


def _values(model: ir.Model) -> Iterable[ir.Value]:
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        yield from graph.inputs
        for node in ir.traversal.RecursiveGraphIterator(graph):
            yield from node.outputs


def _bounds(bounds: Any) -> list[int | None]:
    upper = bounds.upper
    return [int(bounds.lower), int(upper) if upper.is_Integer else None]
