"""Checks of what the user asks for that only need looking at."""

from __future__ import annotations

import math
import os
from pathlib import Path

from optc.errors import UserError

_MOST_THREADS = 1024  # every one of them is started


def numbers(*, seed: int, threads: int | None, **amounts: float | None) -> None:
    """Raises UserError for a negative seed, no threads, or an amount that is negative or NaN."""
    if not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed!r} is out of range", hint="a whole number of at least 0")
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS):
        hint = f"1 to {_MOST_THREADS}, or none for one per core"
        raise UserError(f"threads={threads!r} is out of range", hint=hint)
    for name, amount in amounts.items():
        if amount is None:
            continue
        if not isinstance(amount, (int, float)) or math.isnan(amount) or amount < 0:
            raise UserError(f"{name}={amount!r} is out of range", hint="a number of at least 0")


def dump_directory(path: Path, output: Path | None = None) -> None:
    """Raises UserError where listings cannot be written, or would be among the files of the artifact."""
    if output is not None and path.absolute().is_relative_to(output.absolute()):
        hint = "name a directory outside of the artifact with --dump"
        raise UserError("the listings cannot be written into the artifact", where=str(path), hint=hint)
    try:
        there = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.lexists(each))
        fits = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError):  # the name is too long, or no name
        fits = False
    if not fits:
        hint = "name a directory that exists or can be made, with --dump"
        raise UserError("the listings cannot be written there", where=str(path), hint=hint)
