"""What `optc bisect` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_NODES_SHOWN = 8


def render(data: Mapping[str, Any]) -> RenderableType:
    """Returns what `bisect_data` found for a terminal."""
    table = Table(header_style="bold")
    table.add_column("pass")
    table.add_column("rewrites", justify="right")
    table.add_column("error so far", justify="right")
    for row in data["passes"]:
        over = row["error"] > data["max_error"]
        error = f"[bold red]{figure(row['error'])}, too much[/]" if over else figure(row["error"])
        table.add_row(escape(row["pass"]), str(row["rewrites"]), error)
    limit = f"allowed: {figure(data['max_error'])} relative L2, on {data['samples']}"
    return Group(table, Text(limit, style="dim"), Text("\n".join(_verdict(data))))


def figure(error: float) -> str:
    """A relative error in few characters."""
    return "not comparable" if math.isinf(error) else "0" if error == 0 else f"{error:.2g}"


def _verdict(data: Mapping[str, Any]) -> Iterator[str]:
    found = data["culprit"]
    if found is None:
        worst = max((row["error"] for row in data["passes"]), default=0.0)
        yield f"no pass exceeds it; the largest error is {figure(worst)}"
        return
    if not found["of"]:
        yield f"{found['pass']} exceeds it, and is one rewrite as a whole"
        return
    if found["rewrite"] is None:
        yield f"{found['pass']} exceeds it before its first rewrite, by what it does to the whole model"
        return
    rewrite = found["rewrite"]
    yield f"{found['pass']}, rewrite {rewrite['number']} of {found['of']}: {rewrite['name']}"
    yield f"  error: {figure(found['before'])} without it, {figure(found['after'])} with it"
    if found["reason"]:
        yield f"  why:   {found['reason']}"
    nodes = rewrite["nodes"]
    more = f", and {len(nodes) - _NODES_SHOWN} more" if len(nodes) > _NODES_SHOWN else ""
    yield f"  nodes: {', '.join(nodes[:_NODES_SHOWN])}{more}"
    if rewrite["source"]:
        yield f"  from:  {rewrite['source']}"
    tried = ", ".join(f"{probe['limit']}: {figure(probe['error'])}" for probe in found["probes"])
    yield f"  tried: {tried} (how many of the rewrites: error)"
    if not found["first"]:
        yield "  Not all rewrites before it were tried; where errors cancel an earlier one may exceed it too:"
        yield "  --every tries them one by one."
