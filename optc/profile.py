"""Where the time of a model goes, operator by operator, as ONNX Runtime's own profiler sees it."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc.analysis.concrete import sizes_of
from optc.inspect import inspect_data
from optc.session import ORT_ERRORS, open_session, run_session

_RUNS, _WARMUP = 7, 2
_HOLDERS = ("If", "Loop", "Scan")
_RUN_AS = {"MatMulIntegerToFloat": "DynamicQuantizeMatMul"}  # what the runtime makes of it, as a rule


def operator_times(
    model: ir.Model, feeds: Mapping[str, Any], *, threads: int | None = None
) -> dict[str, float]:
    """Milliseconds per call by operator type, the slowest first, after the runtime's own optimizations.

    Each node counts with its median: one slow call of a busy machine must not show up as an operator.
    Nodes with subgraphs are left out: what they run is counted itself.
    """
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:
        options = {"enable_profiling": True, "profile_file_prefix": str(Path(folder) / "profile")}
        session = open_session(model, threads=threads, options=options)
        for _ in range(_WARMUP + _RUNS):
            run_session(session, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if str(event.get("name", "")).endswith("_kernel_time")]
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in kernels:
        taken[event["name"], event["args"]["op_name"]].append(event["dur"] / 1000)
    total: dict[str, float] = defaultdict(float)
    for (_, kind), times in taken.items():
        if kind not in _HOLDERS:
            total[kind] += per_call(times)
    return {kind: round(total[kind], 5) for kind in sorted(total, key=total.__getitem__, reverse=True)}


def per_call(times: list[float]) -> float:
    """Milliseconds of a node in one call, from all its runs; inside a loop it has several in each call."""
    each = len(times) // (_WARMUP + _RUNS)
    return statistics.median(times[each * _WARMUP :]) * each if each else sum(times) / (_WARMUP + _RUNS)


def profile(
    before: ir.Model, after: ir.Model, feeds: Mapping[str, Any], *, threads: int | None = None
) -> dict[str, Any]:
    """Operator times of two models and, for the second, the work of its operators beside the machine's peaks.

    A model that the runtime cannot profile gives the reason instead.
    """
    try:
        times = {
            name: operator_times(model, feeds, threads=threads)
            for name, model in (("before", before), ("after", after))
        }
    except ORT_ERRORS as error:
        return {"not_profiled": str(error)}
    return {"operators": times, "roofline": _roofline(after, feeds, times["after"])}


def _roofline(model: ir.Model, feeds: Mapping[str, Any], times: Mapping[str, float]) -> dict[str, Any]:
    data = inspect_data(model, sizes_of(model, feeds))
    rows = []
    for row in data["ops"]:
        kind = row["op"].rpartition("::")[2]
        ms = times.get(kind) or times.get(_RUN_AS.get(kind, ""))
        if ms and row["flops"] and row["bytes"]:
            rows.append({"op": row["op"], "flops": row["flops"], "bytes": row["bytes"], "ms": ms})
    return {"machine": data["machine"], "ops": rows}
