"""What the report says in words, in a terminal and on its page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optc.gate.shapes import AS_GIVEN


def columns(report: Mapping[str, Any]) -> str:
    """What the columns of the passes are, with the inputs and the shape that they were taken on."""
    samples = report.get("inputs", {}).get("errors_on")
    final = report["final"]
    shape = final["detail"].get("ms_shape", AS_GIVEN)
    error = "error: relative L2 of the worst output" + (f", on {samples}" if samples else "")
    call = "; ms: one call" + (f" at {shape}" if shape != AS_GIVEN else "")
    return error + (call if final["ms_before"] is not None else "") + "; MB: weights"


def error(found: Mapping[str, Any] | None) -> str | None:
    """The relative error of the outputs, in a few characters; None where none was taken."""
    if found is None:
        return None
    if "skipped" in found:
        return "not compared"
    if (value := relative_error(found)) is None:
        return "values differ"
    return f"{value:.1e}" if value else "0"


def relative_error(found: Mapping[str, Any] | None) -> float | None:
    """The number, where there is one: not where discrete outputs are all there is and differ, say."""
    value = (found or {}).get("rel_l2")
    if found is None or value is None or not math.isfinite(value):
        return None
    return None if found.get("reason") and not found.get("output") else float(value)


def legend(gate: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the ratios of the gate compare, where there are any."""
    if not any(measured(row) for row in gate):
        return []
    return ["time ratio: with it against without it, below 1 is faster; artifact: against the plain export"]


def verdict(row: Mapping[str, Any]) -> str:
    """What followed from a row of the gate, and why."""
    return f"{row['verdict']}: {row['reason']}" if row.get("reason") else str(row["verdict"])


def measured(row: Mapping[str, Any]) -> str:
    """The time ratio in a row of the gate with its 95% interval; a single session has none."""
    if row.get("ratio") is None:
        return ""
    if row.get("low") is None or row.get("high") is None:
        return f"{row['ratio']:.3f} (one session)"
    return f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
