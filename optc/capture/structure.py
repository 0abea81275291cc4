"""Nested Python arguments and results as a tree that is plain JSON."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optc.errors import UserError

Json = Any  # None, bool, int, float, str, list or dict


@dataclass(frozen=True)
class Leaf:
    """One graph input or output.

    ``scalar`` is its type in the module where it is an int, float or bool there; ``optional`` says that None
    is a value of it, ``default`` that the graph has a value for it when it is left out.
    """

    name: str
    scalar: str = ""
    optional: bool = False
    default: bool = False


@dataclass(frozen=True)
class Const:
    """A value that was fixed at capture: None, bool, int, float or str."""

    value: Json


@dataclass(frozen=True)
class Branch:
    """A container: ``kind`` is tuple, list, dict, OrderedDict, namedtuple or object, of class ``cls``."""

    kind: str
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]
    cls: str = ""
    context: Json = None


Structure = Leaf | Const | Branch


class Record(dict[str, Any]):
    """Stands for a result class that this process has not imported: its fields, as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def leaves(structure: Structure) -> Iterator[Leaf]:
    """The leaves, left to right."""
    if isinstance(structure, Leaf):
        yield structure
    elif isinstance(structure, Branch):
        for child in structure.children:
            yield from leaves(child)


def flatten(structure: Structure, value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yields (leaf name, value); ``where`` names the argument in errors.

    Raises:
        UserError: ``value`` does not have this structure.
    """
    if isinstance(structure, Leaf):
        if value is None and structure.default:
            return
        if value is None and not structure.optional:
            raise UserError("None was given for a tensor", where=where, hint="pass an array")
        yield structure.name, value
    elif isinstance(structure, Const):
        if not _is_const(value, structure.value):
            raise UserError(
                f"the model was captured with {structure.value!r} here, and got {_short(value)}",
                where=where,
                hint="leave it out, or capture the model again with that argument",
            )
    else:
        items = _children(structure, value, where)
        for key, child, item in zip(structure.keys, structure.children, items, strict=True):
            yield from flatten(child, item, f"{where}[{key!r}]")


def unflatten(structure: Structure, values: Mapping[str, Any]) -> Any:
    """The nested value, its leaves taken from ``values`` by name."""
    if isinstance(structure, Leaf):
        value = values[structure.name]
        return value.item() if structure.scalar and hasattr(value, "item") else value
    if isinstance(structure, Const):
        return structure.value
    items = [unflatten(child, values) for child in structure.children]
    if structure.kind == "list":
        return items
    if structure.kind == "tuple":
        return tuple(items)
    if structure.kind == "dict":
        return dict(zip(structure.keys, items, strict=True))
    if structure.kind == "OrderedDict":
        return OrderedDict(zip(structure.keys, items, strict=True))
    return _rebuild(structure, items)


def to_json(structure: Structure) -> Json:
    """The inverse of `from_json`."""
    if isinstance(structure, Const):
        return {"const": structure.value}
    if isinstance(structure, Leaf):
        facts = {"scalar": structure.scalar, "optional": structure.optional, "default": structure.default}
        return {"leaf": structure.name, **{name: fact for name, fact in facts.items() if fact}}
    data: dict[str, Json] = {structure.kind: [to_json(child) for child in structure.children]}
    if structure.kind not in ("tuple", "list"):
        data["keys"] = list(structure.keys)
    if structure.cls:
        data["class"] = structure.cls
    if structure.context is not None:
        data["context"] = structure.context
    return data


def from_json(data: Json) -> Structure:
    """Reads what `to_json` wrote; imports and executes nothing.

    Raises:
        ValueError: it is not such data.
    """
    if not isinstance(data, dict):
        raise ValueError(f"not a structure: {data!r}")
    if "const" in data:
        return Const(data["const"])
    if "leaf" in data:
        flags = (bool(data.get(name, False)) for name in ("optional", "default"))
        return Leaf(str(data["leaf"]), str(data.get("scalar", "")), *flags)
    for kind in ("tuple", "list", "dict", "OrderedDict", "namedtuple", "object"):
        if kind not in data:
            continue
        children = tuple(from_json(child) for child in data[kind])
        keys = tuple(tuple(k) if isinstance(k, list) else k for k in data.get("keys", range(len(children))))
        if len(keys) != len(children):
            raise ValueError(f"{len(keys)} keys for {len(children)} items")
        return Branch(kind, keys, children, str(data.get("class", "")), data.get("context"))
    raise ValueError(f"not a structure: {data!r}")


def jsonable(value: Any) -> bool:
    """Whether JSON gives the value back."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _is_const(value: Any, expected: Json) -> bool:
    if expected is None or value is None:
        return value is expected
    return type(value) in (bool, int, float, str) and bool(value == expected)


def _short(value: Any) -> str:
    text = repr(value) if type(value) in (bool, int, float, str, type(None)) else type(value).__name__
    return text if len(text) < 60 else text[:57] + "..."


def _children(branch: Branch, value: Any, where: str) -> Sequence[Any]:
    if branch.kind in ("dict", "OrderedDict"):
        if isinstance(value, Mapping) and set(value) == set(branch.keys):
            return [value[key] for key in branch.keys]
        raise UserError(
            f"expected a dict with the keys {list(branch.keys)}, got {_shape(value)}", where=where
        )
    if branch.kind in ("tuple", "list", "namedtuple"):
        if isinstance(value, (list, tuple)) and len(value) == len(branch.children):
            return value
        raise UserError(f"expected {len(branch.children)} items, got {_shape(value)}", where=where)
    registered = _registered(type(value))
    if registered is not None and f"{type(value).__module__}:{type(value).__qualname__}" == branch.cls:
        items = list(registered.flatten_fn(value)[0])
        if len(items) == len(branch.children):
            return items
    try:
        return [value[key] if isinstance(value, Mapping) else getattr(value, key) for key in branch.keys]
    except (KeyError, AttributeError, TypeError) as missing:
        fields = f"{branch.cls} with the fields {list(branch.keys)}"
        raise UserError(f"expected {fields}, got {_shape(value)}", where=where) from missing


def _registered(cls: type) -> Any:
    """What torch knows about ``cls`` as a container, or None."""
    from torch.utils import _pytree

    return _pytree.SUPPORTED_NODES.get(cls)


def _shape(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with the keys {list(value)}"
    if isinstance(value, (list, tuple)):
        return f"{len(value)} items"
    return type(value).__name__


def _rebuild(branch: Branch, items: list[Any]) -> Any:
    """An instance of the class if the process already knows it as a container, else a `Record`.

    The name comes from a file, so it is looked up among what is loaded, never imported, and only a
    namedtuple or a class registered as a torch container is called.
    """
    module, _, qualname = branch.cls.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        return Record(zip(map(str, branch.keys), items, strict=True))
    if branch.kind == "namedtuple" and issubclass(found, tuple):
        return found(*items) if getattr(found, "_fields", None) == branch.keys else tuple(items)
    registered = _registered(found)
    if registered is None or branch.kind != "object":
        return Record(zip(map(str, branch.keys), items, strict=True))
    return registered.unflatten_fn(items, branch.context)
