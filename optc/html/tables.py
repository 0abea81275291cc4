"""The tables of the report: the ledger, the gate, and what was left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from optc import amounts
from optc.report_text import error as told
from optc.report_text import measured, verdict


def ledger(report: Mapping[str, Any]) -> str:
    """One row per pass, and one for all together."""
    rows = [_row(row) for row in report["passes"]]
    final = report["final"]
    rows.append(f'<tr class="total"><td>all</td><td></td>{_figures(final)}</tr>')
    return _table(("pass", "what it did", "error", "ms", "MB"), rows, numbers=3)


def gate(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, and what followed."""
    lines = [
        f"<tr><td>{escape(str(row['what']))}</td><td>{measured(row)}</td><td>{escape(verdict(row))}</td></tr>"
        for row in rows
    ]
    return _table(("what", "time ratio (95%)", "verdict"), lines, numbers=0)


def curve(found: Mapping[str, Any]) -> str:
    """One row per setting; a column of milliseconds and one of the gain for every shape that was timed."""
    points = found["points"]
    shapes = list(points[0]["latency"])
    metric = any("metric" in point for point in points)
    heads = ["setting", "operations", "error", *(["metric"] if metric else [])]
    for shape in shapes:
        heads += [f"ms, {escape(shape)}", "gain (95%)"]
    rows = []
    for point in points:
        cells = [operations(point, points[0]), error(point["error"])]
        cells += [f"{point['metric']:.4g}"] if metric else []
        for shape in shapes:
            cells += timed(point["latency"][shape])
        mark = ' class="asked"' if point["strength"] == 1 else ""
        asked = " (as asked for)" if point["strength"] == 1 else ""
        name = f"<td><code>{escape(point['setting'])}</code>{asked}</td>"
        rows.append(f"<tr{mark}>{name}{''.join(map(_cell, cells))}</tr>")
    return _table(heads, rows, numbers=len(heads) - 1)


def operations(point: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """How many there are, as a part of those without the pass."""
    if not point["operations"] or not first["operations"]:
        return "–"
    return f"1/{first['operations'] / point['operations']:.2f}"


def timed(found: Mapping[str, Any]) -> list[str]:
    """Milliseconds, and the gain with its interval."""
    low, high = found["low"], found["high"]
    interval = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
    return [f"{found['ms']:.2f}", f"{found['speedup']:.2f}×{interval}"]


def left_alone(report: Mapping[str, Any]) -> str:
    """The reasons, the most frequent first, with the places under them."""
    places: dict[tuple[str, str], list[str]] = {}
    for row in report["passes"]:
        for skip in row["skipped"]:
            places.setdefault((row["name"], skip["reason"]), []).append(skip["node"])
    parts = []
    for (name, reason), nodes in sorted(places.items(), key=lambda item: -len(item[1])):
        counted = Counter(nodes)
        listed = ", ".join(f"<code>{escape(node)}</code>" for node in counted)
        parts.append(
            f"<details><summary>{len(nodes)} × <b>{escape(name)}</b>: {escape(reason)}</summary>"
            f'<p class="soft">{listed}</p></details>'
        )
    return "".join(parts)


def error(found: Mapping[str, Any] | None) -> str:
    """The relative error of the outputs, in a few characters."""
    return told(found) or "–"


def _row(row: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
    name = row["name"] + (f"{{{options}}}" if options else "")
    return f"<tr><td><code>{escape(name)}</code></td><td>{_did(row)}</td>{_figures(row)}</tr>"


def _figures(row: Mapping[str, Any]) -> str:
    ms = amounts.change(row["ms_before"], row["ms_after"], amounts.milliseconds)
    size = amounts.change(row["bytes_before"], row["bytes_after"], amounts.megabytes)
    return "".join(map(_cell, (error(row["error"]), ms or "–", size or "–")))


def _did(row: Mapping[str, Any]) -> str:
    if row["reverted"]:
        return f'<span class="bad">undone: {escape(str(row["reverted"]))}</span>'
    if not row["changed"]:
        return '<span class="soft">nothing to do</span>'
    done = ", ".join(f"{count} {name}" for name, count in sorted(row["matched"].items()))
    return escape(done) or "changed"


def _cell(text: str) -> str:
    return f'<td class="n">{escape(text)}</td>'


def _table(heads: Sequence[str], rows: Sequence[str], *, numbers: int) -> str:
    plain = len(heads) - numbers
    marks = [f"<th{' class=n' if index >= plain else ''}>{head}</th>" for index, head in enumerate(heads)]
    return f'<div class="box" tabindex="0"><table><tr>{"".join(marks)}</tr>{"".join(rows)}</table></div>'
