"""The exporter's table of operators, made once: making it takes longer than converting a small model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from . import complex_numbers

# Torch decomposes these rightly. The translations are wrong for smoothed labels and given probabilities, and
# make sequences, of which nobody knows the types.
_DECOMPOSED = frozenset(
    {
        "aten::cross_entropy_loss",
        "aten::atleast_1d.Sequence",
        "aten::atleast_2d.Sequence",
        "aten::atleast_3d.Sequence",
    }
)


@contextmanager
def table_made_once() -> Iterator[None]:
    """Within it, exports get copies of one table instead of making their own."""
    registry, make = _maker()
    if make is None:  # another version of torch: it makes its tables elsewhere
        yield
        return
    registry.from_torchlib = staticmethod(_copied)
    try:
        yield
    finally:
        registry.from_torchlib = make


def _copied(*args: Any, **kwargs: Any) -> Any:
    """A table to which translations can be added; those of complex tensors have no other way in."""
    copied = copy.copy(_table(*args, **kwargs))
    copied.functions = {
        name: list(found) for name, found in copied.functions.items() if name not in _DECOMPOSED
    }
    for target, function in complex_numbers.TABLE.items():
        copied.register_op(target, function, is_complex=True)
    return copied


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
