"""Whether this machine's int8 products saturate, and what that means for weights."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

FULL, REDUCED = 127, 63  # the largest codes of weights


@cache
def saturates() -> bool:
    """Whether pairs of products of uint8 and int8 are summed in int16, as on x86 without VNNI.

    There ``255 * 127 * 2`` does not fit; with codes up to 63 nothing can overflow. Unknown x86 machines are
    taken to saturate: the cost is one bit of the weights, and the other way the cost would be wrong results.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    return not {"avx512_vnni", "avx_vnni", "amx_int8"} & _flags()


def largest_code() -> int:
    """The largest code of a weight on this machine."""
    return REDUCED if saturates() else FULL


def describe() -> str:
    """What was decided for this machine, for the report."""
    if saturates():
        return "no VNNI: weights have 7 bits, so that sums of two products do not saturate"
    return "int8 products do not saturate: weights have 8 bits"


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return set()
    found = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return set(found.group(1).split()) if found else set()
