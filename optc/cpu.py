"""What this machine's CPU can do, as far as decisions about a program depend on it."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_X86 = frozenset({"x86_64", "i386", "i686"})
# Those that kernels are written for; x86 and Arm.
_KNOWN = VNNI | {"avx2", "fma", "avx512f", "avx512_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"}


def architecture() -> str:
    """The name of the instruction set: x86_64, aarch64."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@cache
def features() -> frozenset[str]:
    """The extensions that kernels make use of, by the names that Linux has for them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return _KNOWN & set(found.group(1).split()) if found else frozenset()


def int8_saturates() -> bool:
    """Whether pairs of products of uint8 and int8 are summed in int16, as on x86 without VNNI.

    There ``255 * 127 * 2`` does not fit; with codes up to 63 nothing can overflow. Unknown x86 machines are
    taken to saturate: the cost is one bit of the weights, and the other way the cost would be wrong results.
    """
    return architecture() in _X86 and not VNNI & features()
