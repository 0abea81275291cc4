"""Checks of what the user asks for that only need looking at."""

from __future__ import annotations

import math
import os
from pathlib import Path

from optc.errors import UserError


def numbers(*, seed: int, threads: int | None, **amounts: float | None) -> None:
    """Raises UserError for a negative seed, no threads, or an amount that is negative or NaN."""
    if not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed!r} is out of range", hint="a whole number of at least 0")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise UserError(f"threads={threads!r} is out of range", hint="at least 1, or none for one per core")
    for name, amount in amounts.items():
        if amount is None:
            continue
        if not isinstance(amount, (int, float)) or math.isnan(amount) or amount < 0:
            raise UserError(f"{name}={amount!r} is out of range", hint="a number of at least 0")


def dump_directory(path: Path) -> None:
    """Raises UserError where listings cannot be written; makes nothing."""
    try:
        there = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.lexists(each))
        fits = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError):  # the name is too long, or no name
        fits = False
    if not fits:
        hint = "name a directory that exists or can be made, with --dump"
        raise UserError("the listings cannot be written there", where=str(path), hint=hint)
