"""The report: what every pass did, left alone and why, how far the outputs moved, what it bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import data
from optc.errors import UserError
from optc.pipeline import Record

# What a report, and a row of it, has at least.
_REPORT = frozenset({"source", "target", "threads", "passes", "final"})
_ROW = frozenset(
    {"matched", "error", "ms_before", "ms_after", "bytes_before", "bytes_after", "reverted", "detail"}
)


def entry(record: Record) -> dict[str, Any]:
    """One pass as the report shows it."""
    findings = record.findings
    return {
        "name": record.step.name,
        "options": record.step.options(),
        "changed": record.report.changed and record.undone is None,
        "matched": dict(record.report.matched),
        "skipped": [{"node": skip.node, "reason": skip.reason} for skip in record.report.skipped],
        "error": findings.get("error"),
        "ms_before": findings.get("ms_before"),
        "ms_after": findings.get("ms_after"),
        "bytes_before": findings.get("bytes_before"),
        "bytes_after": findings.get("bytes_after"),
        "reverted": record.undone,
        "detail": {**record.report.detail, **_earlier(record), "seconds": round(record.seconds, 4)},
    }


def _earlier(record: Record) -> dict[str, Any]:
    if record.earlier is None:
        return {}
    return {"earlier": {"undone": record.earlier, "then allowed": record.max_error}}


def whole(
    records: Sequence[Record],
    *,
    error: Mapping[str, Any] | None,
    timing: Mapping[str, Any],
    size: tuple[int, int],
) -> dict[str, Any]:
    """The same figures for all passes together."""
    matched: dict[str, int] = {}
    for record in (record for record in records if record.undone is None):
        for name, count in record.report.matched.items():
            matched[name] = matched.get(name, 0) + count
    return {
        "changed": any(r.report.changed and r.undone is None for r in records),
        "matched": matched,
        "error": None if error is None else dict(error),
        "ms_before": timing.get("ms_before"),
        "ms_after": timing.get("ms_after"),
        "bytes_before": size[0],
        "bytes_after": size[1],
        "reverted": [r.step.name for r in records if r.undone],
        "detail": {key: value for key, value in timing.items() if key not in ("ms_before", "ms_after")},
    }


def read(path: Path) -> dict[str, Any]:
    """The report of an artifact; UserError where the file holds something else."""
    found = data.read_json(path)
    if not _is_row(found, _REPORT) or not isinstance(found["passes"], list):
        raise _damaged(path)
    if not _is_row(found["final"], _ROW) or not all(_is_row(row, _ROW) for row in found["passes"]):
        raise _damaged(path)
    return dict(found)


def _is_row(found: Any, keys: frozenset[str]) -> bool:
    return isinstance(found, dict) and keys <= set(found)


def _damaged(path: Path) -> UserError:
    return UserError("the file is not a report of optc", where=str(path), hint="compile the model again")


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all weights, in the main graph, subgraphs and function constants."""
    total = 0
    for graph in model.graphs():
        total += sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            tensor = node.attributes.get("value")
            if node.op_type == "Constant" and tensor is not None:
                total += tensor.as_tensor().nbytes
    return total


def interface(model: ir.Model) -> list[dict[str, Any]]:
    """Names, dtypes and shapes of the inputs, as JSON."""
    return [
        {"name": v.name, "type": str(v.type) if v.type is not None else None, "shape": _shape(v)}
        for v in model.graph.inputs
    ]


def _shape(value: ir.Value) -> list[int | str | None] | None:
    if value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]
