"""Feeds that people give: an array per graph input."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.errors import UserError

from .captured import Feeds


def positional(names: Sequence[str], example_inputs: Any) -> Feeds:
    """Feeds from a dict by name, a tuple or list in input order, or a single value."""
    if isinstance(example_inputs, Mapping):
        return dict(example_inputs)
    values = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if len(values) > len(names):
        raise UserError(f"{len(values)} example inputs for {len(names)} inputs", where=", ".join(names))
    return dict(zip(names, values, strict=False))


def checked(model: ir.Model, feeds: Mapping[str, Any]) -> Feeds:
    """The feeds as arrays, in input order.

    Raises:
        UserError: an input is missing or unknown, or has another dtype or rank, or a dim that does not fit.
    """
    names = [value.name or "" for value in model.graph.inputs]
    for name in feeds:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
            raise UserError(f"{name!r} is no input of the model", where=f"input {name}", hint=hint)
    defaults = {name for name in names if name in model.graph.initializers}
    return {
        name: _checked(value, feeds.get(name))
        for name, value in zip(names, model.graph.inputs, strict=True)
        if name in feeds or name not in defaults
    }


def _checked(value: ir.Value, given: Any) -> Any:
    where = f"input {value.name}"
    if isinstance(value.type, ir.OptionalType) and given is None:
        return None
    if given is None:
        raise UserError("no value is given for it", where=where, hint=_expected(value))
    if not isinstance(value.type, ir.TensorType):
        return given
    array = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
    if value.dtype is not None and array.dtype != value.dtype.numpy() and value.dtype != ir.DataType.STRING:
        raise UserError(f"it has dtype {array.dtype}", where=where, hint=_expected(value))
    if value.shape is not None and not _fits(value.shape, array.shape):
        raise UserError(f"it has shape {array.shape}", where=where, hint=_expected(value))
    return array


def _fits(shape: ir.Shape, given: tuple[int, ...]) -> bool:
    return len(shape) == len(given) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(shape, given, strict=True)
    )


def _expected(value: ir.Value) -> str:
    return f"the model expects {value.type} {value.shape if value.shape is not None else ''}".rstrip()
