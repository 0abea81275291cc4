"""Torch's TreeSpec as our `Structure`."""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from torch.utils import _pytree

from .structure import Branch, Structure, jsonable

Path = tuple[Any, ...]


def from_treespec(spec: _pytree.TreeSpec, leaf: Callable[[Path], Structure], path: Path = ()) -> Structure:
    """``leaf(path)`` is called once per leaf, in torch's order."""
    if spec.is_leaf():
        return leaf(path)
    keys = _keys(spec)
    children = tuple(
        from_treespec(child, leaf, (*path, key)) for key, child in zip(keys, spec.children(), strict=True)
    )
    kind = _KINDS.get(spec.type)
    if kind is not None:
        return Branch(kind, keys, children)
    if _pytree.is_namedtuple_class(spec.context):
        return Branch("namedtuple", keys, children, _class_name(spec.context))
    context = spec.context if jsonable(spec.context) else None
    return Branch("object", keys, children, _class_name(spec.type), context)


def join(prefix: str, path: Path) -> str:
    """The name of the value at ``path``: ``prefix_key_0``."""
    parts = [re.sub(r"[^\w.]", "_", str(part)) for part in path]
    return "_".join([prefix, *parts] if prefix else parts)


_KINDS = {tuple: "tuple", list: "list", dict: "dict", OrderedDict: "OrderedDict", defaultdict: "dict"}


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _keys(spec: _pytree.TreeSpec) -> Path:
    context, count = spec.context, len(spec.children())
    if _pytree.is_namedtuple_class(context):
        return tuple(context._fields)
    if spec.type in (list, tuple) or not isinstance(context, (list, tuple)):
        return tuple(range(count))
    # A dict or a ModelOutput has its keys as context, a defaultdict or a dataclass as a part of it.
    for names in (*(part for part in context if isinstance(part, (list, tuple))), context):
        if len(names) == count:
            return tuple(names)
    return tuple(range(count))
