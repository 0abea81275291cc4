"""More room in fixed ranges, once sites are chosen, for samples far larger than those that calibration saw.

What a range cuts off grows with the square of how far a sample lies beyond it, so a few large ones decide
how far an error goes above its limit. Coarser steps, as far as the limit leaves room for them, buy that off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import onnx_ir as ir

from optc.passbase import Report

from .judge import Found

Way = TypeVar("Way")


@dataclass(frozen=True)
class Held:
    """A model with some sites quantized, and what was found of it."""

    model: ir.Model
    report: Report
    found: Found


class Judging(Protocol):
    """What is asked of a judge here."""

    def allows(self, found: Found) -> bool:
        """Whether a model may be taken."""


def widened(
    held: Held, ways: Sequence[Way], judge: Judging, limit: float | None, made: Callable[[Way], Held]
) -> Held:
    """The model with as much room as it takes for the error at worst to stay within ``limit``, if that fits.

    Args:
        held: one that is allowed.
        ways: with more and more room.
        made: quantizes the same sites in one of those ways.
    """
    if not ways or limit is None:
        return held
    for way in ways:
        if held.found.worst <= limit:
            break
        tried = made(way)
        if not judge.allows(tried.found) or not tried.found.worst < held.found.worst:
            break
        held = tried
    return held
