"""Which machine a program was made for, and what another one means for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import cpu, match

_SAFE = 64  # weights up to here, times 255, cannot make the sum of two products leave int16
_LOOKUPS = frozenset({"Gather", "GatherBlockQuantized"})


def tuned_for(model: ir.Model) -> dict[str, Any]:
    """The CPU that this program was made on, and the bits of its int8 weights (0: it has none)."""
    return {
        "architecture": cpu.architecture(),
        "features": sorted(cpu.features()),
        "int8_weight_bits": _weight_bits(model),
    }


def unlike(tuned: Mapping[str, Any]) -> list[str]:
    """What somebody who runs a program on this machine should know, if it was made for another.

    Args:
        tuned: what :func:`tuned_for` said where the program was made; empty when that is not known.
    """
    if not tuned:
        return []
    told = []
    made, here = str(tuned.get("architecture")), cpu.architecture()
    missing = sorted(set(tuned.get("features") or ()) - cpu.features())
    if tuned.get("int8_weight_bits") == 8 and cpu.int8_saturates():
        told.append(
            "its int8 weights have 8 bits, and the int8 products of this machine, which has no VNNI, "
            "saturate: results may be wrong"
        )
    if made != here:
        told.append(f"it was tuned for {made}, and this machine is {here}: it may be slow")
    elif missing:
        told.append(f"it was tuned for a CPU with {', '.join(missing)}, which this one lacks: it may be slow")
    elif tuned.get("int8_weight_bits") == 7 and not cpu.int8_saturates():
        told.append("its int8 weights have 7 bits for a CPU without VNNI; here they could have 8")
    return told


def _weight_bits(model: ir.Model) -> int:
    """7 or 8 where int8 matrices or kernels are multiplied, else 0."""
    bits = 0
    for value in model.graph.initializers.values():
        if value.dtype != ir.DataType.INT8 or (match.rank(value) or 0) < 2:
            continue
        if any(node.op_type in _LOOKUPS for node, _ in value.uses()):
            continue
        codes = match.constant(value)
        assert codes is not None
        bits = max(bits, 8 if int(np.abs(codes.astype(np.int16)).max(initial=0)) > _SAFE else 7)
    return bits
