"""What was asked for in vain: names that nothing has, and options that the scheme does not look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optc.passbase import Skip

from .asked import Asked

_INT8 = ("int8-dynamic", "int8-static")
_WEIGHTS = ("int8-weight", "int4-weight")

# The schemes that look at an option, by its name, or where only some of its values say anything by that too.
_LOOKED_AT = {
    "granularity=tensor": _INT8,
    "granularity=group": _WEIGHTS,
    "group": _WEIGHTS,
    "method": _WEIGHTS,
    "calibrate": ("int8-static",),
    "smooth": _INT8,
    "bias-correct": _INT8,
}
_OF_BLOCKS = (
    "group",
    "method",
)  # where the scheme is chosen, dynamic int8 may have weights in blocks beside it


def without_effect(
    options: Mapping[str, Any], scheme: str, asked: Asked, skips: Sequence[Skip]
) -> list[Skip]:
    """What the report tells of such options.

    Args:
        options: those that were given, by name.
        scheme: the one that was taken; ``asked`` has what was given.
        skips: what the pass left alone.
    """
    told = [skip for name, value in options.items() if (skip := _not_looked_at(name, value, scheme, asked))]
    if asked.exclude is not None and not any("excluded by" in skip.reason for skip in skips):
        told.append(Skip("exclude", f"no site or table has a name with {asked.exclude.pattern!r}"))
    return told


def _not_looked_at(name: str, value: Any, scheme: str, asked: Asked) -> Skip | None:
    schemes = _LOOKED_AT.get(f"{name}={value}", _LOOKED_AT.get(name))
    if schemes is None or scheme in schemes:
        return None
    if asked.scheme == "auto" and scheme == "int8-dynamic" and name in _OF_BLOCKS:
        return None
    text = str(value).lower() if isinstance(value, bool) else value
    return Skip(name, f"{name}={text} has no effect on {scheme}; it is for {' and '.join(schemes)}")
