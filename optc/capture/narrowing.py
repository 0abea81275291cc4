"""Dynamic dims that a model does not support over the whole range that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch._dynamo.exc import UserError
from torch.export import Dim
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes

# Guards that torch makes no suggestion for: `size == min(512, size)`, from a table of 512 rows that is sliced
# to the size, and `size != 1`.
_AT_MOST = re.compile(r"Not all values of (\w+) = (\S+) in .*?\bmin\((\d+), \2\)")
_NOT_ONE = re.compile(r"Not all values of (\w+) = (\S+) in .*? generated guard \2 != 1\b")


def suggested_fixes(message: str) -> list[str]:
    """The lines ``dim = ...`` of torch's message; for plain bounds that torch leaves out, ours."""
    _, found, fixes = message.partition("Suggested fixes:")
    if found:
        lines = (line.strip().replace(", max=oo", "") for line in fixes.strip().splitlines())
        return [line for line in lines if re.match(r"\w+ = ", line)]
    upper: dict[str, int] = {}
    for name, _, bound in _AT_MOST.findall(message):
        upper[name] = min(int(bound), upper.get(name, int(bound)))
    lower = {name for name, _ in _NOT_ONE.findall(message)}
    fixes_of = {name: f"max={bound}" for name, bound in upper.items()}
    for name in sorted(lower):
        fixes_of[name] = f"min=2, {fixes_of[name]}" if name in fixes_of else "min=2"
    return [f"{name} = Dim('{name}', {bounds})" for name, bounds in fixes_of.items()]


def constants(message: str) -> list[str]:
    """The suggestions that make a dim a constant."""
    return [fix for fix in suggested_fixes(message) if fix.rpartition(" = ")[2].isdigit()]


def narrowed(message: str, dynamic_shapes: dict[str, Any]) -> dict[str, Any] | None:
    """The shapes with the suggestions of the message followed; None if there are none, or none that fit."""
    fixes = suggested_fixes(message)
    if not fixes:
        return None
    try:
        refined = refine_dynamic_shapes_from_suggested_fixes(
            "Suggested fixes:\n" + "\n".join(fixes), dynamic_shapes
        )
    except (AssertionError, UserError):  # it names a dim of its own making
        return None
    return dict(refined) if isinstance(refined, Mapping) else None


def as_hints(spec: Any) -> Any:
    """The shapes with every plain Dim a hint, which torch may relate to others; names are put back later."""
    return _mapped(spec, _hint)


def _hint(dim: Any) -> Any:
    if type(dim) is not Dim:
        return dim
    low, high = dim.min or None, dim.max if isinstance(dim.max, int) else None
    return Dim.DYNAMIC(min=low, max=high) if low or high else Dim.DYNAMIC


def _mapped(spec: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(spec, Mapping):
        return {key: _mapped(item, change) for key, item in spec.items()}
    if isinstance(spec, (tuple, list)):
        return type(spec)(_mapped(item, change) for item in spec)
    return change(spec)
