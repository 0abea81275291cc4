"""The exporter's table of operators, made once: making it takes longer than converting a small model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def table_made_once() -> Iterator[None]:
    """Within it, exports read one table, which they do not change, instead of making their own."""
    registry, make = _maker()
    if make is None:  # another version of torch: it makes its tables elsewhere
        yield
        return
    registry.from_torchlib = staticmethod(_table)
    try:
        yield
    finally:
        registry.from_torchlib = make


@cache
def _table(*args: Any, **kwargs: Any) -> Any:
    registry, make = _maker()
    return make.__func__(registry, *args, **kwargs)


@cache
def _maker() -> tuple[Any, Any]:
    """The class, and its own classmethod, which is put back whatever other threads do meanwhile."""
    from torch.onnx._internal.exporter import _registration

    registry = getattr(_registration, "ONNXRegistry", None)
    return registry, vars(registry).get("from_torchlib") if registry is not None else None
