"""Error, or the user's metric, against latency: what weaker and stronger settings of a pass cost and buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from optc.report_text import relative_error

from . import plots, tables
from .plots import Tradeoff


def title(found: Mapping[str, Any]) -> str:
    """The heading."""
    return f"{found['name']}: what more and less of it costs and buys"


def section(found: Mapping[str, Any]) -> str:
    """Plots, the same numbers as a table, and what was left out and why."""
    points = found["points"]
    if not points:
        return _left_out(found)
    figures = [_figure(found, shape, what) for shape in points[0]["latency"] for what in _axes(points)]
    drawn = f'<div class="plots">{"".join(figures)}</div>' if figures else ""
    return f"{drawn}<p></p>{tables.curve(found)}{_left_out(found)}"


def _axes(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What there is of every point."""
    metric = ["metric"] if all("metric" in point for point in points) else []
    compared = all(relative_error(point["error"]) is not None for point in points)
    return [*metric, *(["relative error"] if compared else [])]


def _figure(found: Mapping[str, Any], shape: str, what: str) -> str:
    rows = []
    for point in found["points"]:
        value = point["metric"] if what == "metric" else point["error"]["rel_l2"]
        ms = point["latency"][shape]["ms"]
        tip = f"{point['setting']}: {what} {value:.4g} at {ms:.3f} ms"
        rows.append(Tradeoff(point["setting"], ms, value, point["strength"] == 1, tip))
    limit = found["allowed"].get("min_metric" if what == "metric" else "max_error")
    name = f"{what.capitalize()} against latency (ms), {shape}"
    return plots.tradeoff(name, rows, limit=limit, limit_name="allowed")


def _left_out(found: Mapping[str, Any]) -> str:
    lines = [
        f"<li><code>{escape(each['setting'])}</code>: {escape(each['reason'])}</li>"
        for each in found["left_out"]
    ]
    return f'<p class="soft">Not in it:</p><ul class="soft">{"".join(lines)}</ul>' if lines else ""
