"""The tables of `benchmarks/cpu.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from peers import REFERENCE
from zoo import Model

Absent = Mapping[tuple[str, int, str], str]
Models = Mapping[str, Model]
Sessions = Sequence[Mapping[str, Any]]


def markdown(sessions: Sessions, models: Models, names: Sequence[str], absent: Absent) -> str:
    """Median milliseconds over the sessions, the smallest and largest of them, the fastest in bold."""
    lines = [f"| ms | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    reasons: dict[str, int] = {}
    for (model, batch), rows in _by_task(sessions, models).items():
        medians = {name: float(np.median([row["ms"] for row in found])) for name, found in rows.items()}
        cells = []
        for name in names:
            if name in medians:
                cells.append(_cell([row["ms"] for row in rows[name]], medians[name] == min(medians.values())))
            else:
                reason = absent.get((model, batch, name), "not measured")
                cells.append(f"- [{reasons.setdefault(reason, len(reasons) + 1)}]")
        lines.append(f"| {models[model].title}, batch {batch} | {' | '.join(cells)} |")
    notes = [f"[{number}] {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def details(sessions: Sessions, models: Models, names: Sequence[str]) -> str:
    """Per model: speedup over ONNX Runtime, first answer, memory and error."""
    lines = []
    for (model, batch), rows in _by_task(sessions, models).items():
        count = max(len(found) for found in rows.values())
        title = f"{models[model].title}, batch {batch}: {count} sessions, speedup over {REFERENCE}"
        lines += [
            title,
            f"  {'':28s} {'speedup (least to most)':>24s} {'first answer':>13s} {'memory':>9s}   error",
        ]
        for name in (name for name in names if name in rows):
            lines.append(_detail(name, rows[name]))
        lines.append("")
    return "\n".join(lines)


def _by_task(sessions: Sessions, models: Models) -> dict[tuple[str, int], dict[str, list[Any]]]:
    """Rows per contestant, of every model and batch size, in the order of the models."""
    found: dict[tuple[str, int], dict[str, list[Any]]] = {}
    order = list(models)
    known = [session for session in sessions if session["model"] in models]
    for session in sorted(known, key=lambda s: (order.index(s["model"]), s["batch"])):
        rows = found.setdefault((session["model"], session["batch"]), {})
        for name, row in session["rows"].items():
            rows.setdefault(name, []).append(row)
    return found


def _cell(values: Sequence[float], best: bool) -> str:
    median = _digits(float(np.median(values)))
    text = f"**{median}**" if best else median
    return text if len(values) < 2 else f"{text} ({_digits(min(values))}-{_digits(max(values))})"


def _detail(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    ratios = [row["speedup"] for row in rows]
    spread = f"{np.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
    first = f"{np.median([row['first_answer_seconds'] for row in rows]):.2f} s"
    memory = f"{np.median([row['peak_bytes'] for row in rows]) / 1e6:.0f} MB"
    errors = [row["rel_l2"] for row in rows]
    error = "other outputs" if None in errors else f"{max(errors):.1e}"
    return _row(name, spread, first, memory, error)


def _row(name: str, spread: str, first: str, memory: str, error: str) -> str:
    return f"  {name:28s} {spread:>24s} {first:>13s} {memory:>9s}   {error}"


def _digits(value: float) -> str:
    """Three digits."""
    places = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{places}f}"
