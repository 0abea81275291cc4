"""What saturating int8 products of a machine mean for weights."""

from __future__ import annotations

from optc.cpu import int8_saturates

FULL, REDUCED = 127, 63  # the largest codes of weights


def largest_code() -> int:
    """The largest code of a weight on this machine."""
    return REDUCED if int8_saturates() else FULL


def describe() -> str:
    """What was decided for this machine, for the report."""
    if int8_saturates():
        return "no VNNI: weights have 7 bits, so that sums of two products do not saturate"
    return "int8 products do not saturate: weights have 8 bits"
