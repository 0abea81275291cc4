"""Error, or the user's metric, against latency: what weaker and stronger settings of a pass cost and buy."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

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
    figures = [_figure(found, shape) for shape in points[0]["latency"]]
    drawn = f'<div class="plots">{"".join(figures)}</div>' if any(figures) else ""
    return f"{drawn}<p></p>{tables.curve(found)}{_left_out(found)}"


def _figure(found: Mapping[str, Any], shape: str) -> str:
    points, allowed = found["points"], found["allowed"]
    metric = all("metric" in point for point in points)
    if not metric and not all("rel_l2" in (point["error"] or {}) for point in points):
        return ""
    what = "Metric" if metric else "Relative error"
    rows = []
    for point in points:
        value = point["metric"] if metric else point["error"]["rel_l2"]
        time = point["latency"][shape]
        tip = f"{point['setting']}: {what.lower()} {value:.4g} at {time['ms']:.3f} ms"
        rows.append(Tradeoff(point["setting"], time["ms"], value, point["strength"] == 1, tip))
    limit = allowed.get("min_metric" if metric else "max_error")
    name = f"{what} against latency (ms), {shape}"
    return plots.tradeoff(name, rows, limit=limit, limit_name="allowed")


def _left_out(found: Mapping[str, Any]) -> str:
    lines = [
        f"<li><code>{escape(each['setting'])}</code>: {escape(each['reason'])}</li>"
        for each in found["left_out"]
    ]
    return f'<p class="soft">Not in it:</p><ul class="soft">{"".join(lines)}</ul>' if lines else ""
