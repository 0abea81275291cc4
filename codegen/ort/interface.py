"""Checks that what a program is fed fits its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort

from optc.errors import UserError
from optc.registry import did_you_mean


@dataclass(frozen=True)
class Input:
    """What the runtime expects of one input.

    ``type`` is its text for the type, ``tensor(float)``; ``dims`` are numbers, names or None, and None as a
    whole where the rank is open.
    """

    name: str
    type: str
    dims: tuple[int | str | None, ...] | None

    @classmethod
    def of(cls, arg: ort.NodeArg) -> Input:
        """From what a session says of its input."""
        is_tensor = arg.type.startswith("tensor(")
        # A scalar and an unknown rank look alike here: both have no dimensions.
        return cls(arg.name, arg.type, tuple(arg.shape) if is_tensor and arg.shape else None)

    @property
    def optional(self) -> bool:
        """Whether None may be given."""
        return self.type.startswith("optional(")


class Interface:
    """The inputs of a program, and what has to be looked at in every call.

    A call of a small model takes as long as a few dozen lines of Python, so feeds that fit are let through on
    a glance, and only what looks odd, or what the runtime refuses, is checked thoroughly.
    """

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = tuple(inputs)
        tensors = all(i.type.startswith("tensor(") for i in inputs)
        self._dtypes = {i.name: next(iter(_dtypes(i.type)), None) for i in inputs} if tensors else None
        self._ties = _ties(inputs)

    def looks_fit(self, feeds: Mapping[str, Any]) -> bool:
        """Whether the feeds are as a program takes them, but for ranks and fixed dimensions.

        Those the runtime checks itself; it does not check that equal names are equal sizes.
        """
        if self._dtypes is None or len(feeds) != len(self._dtypes):
            return False
        for name, dtype in self._dtypes.items():
            value = feeds.get(name)
            if type(value) is not np.ndarray or value.dtype != dtype or not value.flags.c_contiguous:
                return False
        return all(_agree(feeds, tie) for tie in self._ties)

    def check(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """As `check_feeds`."""
        return check_feeds(self.inputs, feeds)


def _ties(inputs: Sequence[Input]) -> list[list[tuple[str, int]]]:
    """The axes (input, number) that share a named dimension, per name that occurs more than once."""
    axes: dict[str, list[tuple[str, int]]] = {}
    for each in inputs:
        for axis, dim in enumerate(each.dims or ()):
            if isinstance(dim, str) and dim.isidentifier():
                axes.setdefault(dim, []).append((each.name, axis))
    return [found for found in axes.values() if len(found) > 1]


def _agree(feeds: Mapping[str, np.ndarray], tie: list[tuple[str, int]]) -> bool:
    sizes = {feeds[name].shape[axis : axis + 1] for name, axis in tie}
    return len(sizes) == 1 and () not in sizes


def check_feeds(inputs: Sequence[Input], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds, contiguous and of numpy types.

    Raises:
        UserError: names the input, what it should be and what it is.
    """
    if len(feeds) != len(inputs) or any(i.name not in feeds for i in inputs):
        _check_names([i.name for i in inputs if not i.optional], [i.name for i in inputs], feeds)
    named: dict[str, tuple[int, str]] = {}
    return {i.name: _checked(i, feeds.get(i.name), named) for i in inputs}


def _check_names(required: Sequence[str], known: Sequence[str], feeds: Mapping[str, Any]) -> None:
    for name in feeds:
        if name not in known:
            hint = did_you_mean(name, known) if known else "the program has no inputs"
            raise UserError(f"the program has no input {name!r}", where="inputs", hint=hint)
    missing = [name for name in required if name not in feeds]
    if missing:
        names = ", ".join(map(repr, missing))
        raise UserError(f"no value for {names}", where="inputs", hint=f"give all of: {', '.join(known)}")


def _checked(expected: Input, value: Any, named: dict[str, tuple[int, str]]) -> Any:
    if value is None and expected.optional:
        return None
    if "seq(" in expected.type:
        if not isinstance(value, list | tuple):
            raise _misfit(expected, f"a sequence (a list of arrays), and got {_kind(value)}")
        return [_array(expected, item) for item in value]
    array = _array(expected, value)
    if expected.dims is not None:
        _check_dims(expected, array, named)
    return array


def _array(expected: Input, value: Any) -> Any:
    wanted = _dtypes(expected.type)
    if isinstance(value, bool | int | float) and wanted:
        value = _number(value, wanted[0])
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        raise _misfit(expected, f"an array, and got {_kind(value)}")
    if wanted and value.dtype not in wanted and not (value.dtype.kind in "USO" and wanted[0].kind == "O"):
        raise _misfit(expected, f"{wanted[0]}, and got {value.dtype}", f"convert it to {wanted[0]}")
    return value if value.flags.c_contiguous else np.ascontiguousarray(value)


def _number(value: bool | int | float, wanted: np.dtype[Any]) -> np.ndarray:
    """A Python number in the type of the input, where that can hold it."""
    natural = np.asarray(value)
    fits = natural.dtype.kind == wanted.kind or (natural.dtype.kind == "i" and wanted.kind in "uf")
    return natural.astype(wanted) if fits else natural


def _check_dims(expected: Input, array: np.ndarray, named: dict[str, tuple[int, str]]) -> None:
    assert expected.dims is not None
    if array.ndim != len(expected.dims):
        raise _misfit(expected, f"of rank {len(expected.dims)}, and got shape {array.shape}")
    for axis, (dim, size) in enumerate(zip(expected.dims, array.shape, strict=True)):
        if isinstance(dim, int) and dim != size:
            hint = "compile the model with that dimension dynamic to run it at other sizes"
            raise _misfit(expected, f"size {dim} in dimension {axis}, and got shape {array.shape}", hint)
        if isinstance(dim, str) and dim.isidentifier():
            first = named.setdefault(dim, (size, expected.name))
            if first[0] != size:
                what = f"the same size as {first[1]!r} ({first[0]}) in dimension {axis} ({dim})"
                raise _misfit(expected, f"{what}, and got shape {array.shape}")


def _misfit(expected: Input, what: str, hint: str | None = None) -> UserError:
    shape = f" {_text(expected.dims)}" if expected.dims is not None else ""
    return UserError(
        f"input {expected.name!r} must be {what}",
        where=f"input {expected.name}: {expected.type}{shape}",
        hint=hint,
    )


def _text(dims: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _dtypes(ort_type: str) -> list[np.dtype[Any]]:
    """The numpy types of an element of the type text; empty for types that have none."""
    found = re.search(r"tensor\((\w+)\)", ort_type)
    name = found.group(1) if found else ""
    if name in _NAMES:
        return [np.dtype(_NAMES[name])]
    custom = getattr(ml_dtypes, _ML_NAMES.get(name, name), None)
    return [np.dtype(custom)] if custom is not None else []


_NAMES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object"}
_NAMES |= {f"{s}int{n}": f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)}
_NAMES |= {"complex64": "complex64", "complex128": "complex128"}
_ML_NAMES = {
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
}
_ML_NAMES |= {"float8e5m2fnuz": "float8_e5m2fnuz"}
