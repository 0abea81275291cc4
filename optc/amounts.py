"""Milliseconds and bytes as people read them: about three digits, whatever the size."""

from __future__ import annotations

from collections.abc import Callable


def milliseconds(ms: float) -> str:
    """``12.35``, ``1.20``, ``0.0131``: a small model takes microseconds, and they should differ from 0."""
    return _short(ms, decimals=2)


def megabytes(size: float) -> str:
    """Bytes as megabytes: ``90.8``, ``1.2``, ``0.0116``, ``<0.001``."""
    return "<0.001" if 0 < size < 1000 else _short(size / 1e6, decimals=1)


def duration(ms: float) -> str:
    """Milliseconds with their unit: ``12.3 ms``, ``0.62 µs``."""
    if ms >= 0.1 or not ms:
        return f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"
    return f"{ms * 1e3:.2g} µs"


def change(before: float | None, after: float | None, show: Callable[[float], str]) -> str | None:
    """``before → after``, or one of them where they look the same; None where one was not measured."""
    if before is None or after is None:
        return None
    first, second = show(before), show(after)
    return first if first == second else f"{first} → {second}"


def _short(value: float, *, decimals: int) -> str:
    return f"{value:.{decimals}f}" if value >= 1 or not value else f"{value:.3g}"
