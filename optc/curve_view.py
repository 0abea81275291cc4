"""The curve of a pass as a table in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from optc.html import tables


def render(found: Mapping[str, Any]) -> RenderableType:
    """One row per setting, from doing nothing to more than was asked for."""
    points = found["points"]
    notes = Counter(each["reason"] for each in found["left_out"])
    left = [Text(f"  {count} settings left out: {reason}", style="dim") for reason, count in notes.items()]
    if not points:
        return Group(Text(f"{found['name']}: no curve"), *left)
    shapes = list(points[0]["latency"])
    metric = any("metric" in point for point in points)
    table = Table(title=f"curve of {found['name']}", title_justify="left", header_style="bold")
    table.add_column("setting", overflow="fold")
    for name in ("operations", "error", *(["metric"] if metric else [])):
        table.add_column(name, justify="right")
    for shape in shapes:
        table.add_column(f"ms, {escape(shape)}", justify="right")
        table.add_column("gain (95%)", justify="right")
    for point in points:
        cells = [escape(point["setting"]), tables.operations(point, points[0]), tables.error(point["error"])]
        cells += [f"{point['metric']:.4g}"] if metric else []
        for shape in shapes:
            cells += tables.timed(point["latency"][shape])
        table.add_row(*cells, style="bold" if point["strength"] == 1 else None)
    return Group(table, *left)
