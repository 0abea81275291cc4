"""Dynamic dims that a model does not support over the whole range that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch.export import Dim
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes

# Guards such as `size == min(512, size)`: a table of 512 rows is sliced to the size.
_AT_MOST = re.compile(r"Not all values of (\w+) = (\S+) in .*?\bmin\((\d+), \2\)")


def suggested_fixes(message: str) -> list[str]:
    """The lines ``dim = ...`` of torch's message; for a plain upper bound that torch leaves out, ours."""
    _, found, fixes = message.partition("Suggested fixes:")
    if found:
        return [line.strip() for line in fixes.strip().splitlines() if re.match(r"\s*\w+ = ", line)]
    bounds: dict[str, int] = {}
    for name, _, bound in _AT_MOST.findall(message):
        bounds[name] = min(int(bound), bounds.get(name, int(bound)))
    return [f"{name} = Dim('{name}', max={bound})" for name, bound in bounds.items()]


def narrowed(message: str, dynamic_shapes: dict[str, Any]) -> dict[str, Any] | None:
    """The shapes with torch's suggestions followed; None if there are none, or a dim would become a constant."""
    fixes = suggested_fixes(message)
    if not fixes or any(fix.rpartition(" = ")[2].isdigit() for fix in fixes):
        return None
    text = "Suggested fixes:\n" + "\n".join(fixes)
    refined = refine_dynamic_shapes_from_suggested_fixes(text, dynamic_shapes)
    return dict(refined) if isinstance(refined, Mapping) else None


def as_hints(spec: Any) -> Any:
    """The shapes with every plain Dim a hint, which torch may relate to others; its name is put back later."""
    return _mapped(spec, _hint)


def _hint(dim: Any) -> Any:
    if type(dim) is not Dim:
        return dim
    low, high = dim.min or None, dim.max if isinstance(dim.max, int) else None  # type: ignore[attr-defined]
    return Dim.DYNAMIC(min=low, max=high) if low or high else Dim.DYNAMIC


def _mapped(spec: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(spec, Mapping):
        return {key: _mapped(item, change) for key, item in spec.items()}
    if isinstance(spec, (tuple, list)):
        return type(spec)(_mapped(item, change) for item in spec)
    return change(spec)
