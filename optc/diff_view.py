"""The tables of `optc diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from optc.inspect_view import count, shorten

ROWS_SHOWN = 12
LINES_SHOWN = 60
LINE_WIDTH = 98


def render(data: Mapping[str, Any]) -> RenderableType:
    """Returns what `diff_data` found for a terminal."""
    parts: list[RenderableType] = []
    if data["same"]:
        parts.append(Text("the models are the same, weights included", style="bold green"))
    else:
        parts += [_summary(data), "", *_rows(data), *_listing(data["listing"])]
    if "outputs" in data:
        parts.append(_outputs(data["outputs"]))
    return Group(*parts)


def _summary(data: Mapping[str, Any]) -> Table:
    table = Table(header_style="bold")
    table.add_column("")
    for name in ("a", "b"):
        table.add_column(name, justify="right", overflow="fold")
    weights = data["parameters"]
    table.add_row("nodes", *(str(number) for number in data["nodes"]))
    table.add_row("blocks", *(_block_text(blocks) for blocks in data["blocks"]))
    table.add_row("parameters", *(count(number) for number in weights["count"]))
    table.add_row("weights", *(count(number, "B") for number in weights["bytes"]))
    for row in data["ops"][:ROWS_SHOWN]:
        table.add_row(Text(shorten(row["op"])), str(row["a"]), str(row["b"]))
    if len(data["ops"]) > ROWS_SHOWN:
        table.add_row(f"{len(data['ops']) - ROWS_SHOWN} other operators", "", "", style="dim")
    return table


def _block_text(blocks: Sequence[Mapping[str, Any]]) -> str:
    runs = [(kind, len(list(rows))) for kind, rows in groupby(block["kind"] for block in blocks)]
    return ", ".join(f"{kind} \u00d7{number}" for kind, number in runs) or "none"


def _rows(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    weights = data["parameters"]
    interface = [
        f"{row['kind']} {shorten(row['name'])}: {_interface_change(row)}" for row in data["interface"]
    ]
    changed = [f"{shorten(c['name'])}: {_change(c)}" for c in weights["changed"]]
    renamed = [f"{shorten(old)} -> {shorten(new)}" for old, new in weights["renamed"]]
    sections = (
        ("interface", interface),
        ("functions removed", data["functions"]["removed"]),
        ("functions added", data["functions"]["added"]),
        ("weights changed", changed),
        ("weights removed", weights["removed"]),
        ("weights added", weights["added"]),
        ("weights renamed", renamed),
    )
    for title, lines in sections:
        if lines:
            yield Text(f"{title}: {len(lines)}", style="bold")
            yield Text("\n".join(f"  {shorten(line, LINE_WIDTH - 2)}" for line in lines[:ROWS_SHOWN]))
            if len(lines) > ROWS_SHOWN:
                yield Text(f"  and {len(lines) - ROWS_SHOWN} more", style="dim")


def _interface_change(row: Mapping[str, Any]) -> str:
    name = f"called {shorten(row['renamed'])!r} in b" if "renamed" in row else ""
    types = f"{row['a'] or 'none'} -> {row['b'] or 'none'}" if row["a"] != row["b"] else ""
    return ", ".join(filter(None, (name, types)))


def _change(change: Mapping[str, Any]) -> str:
    if change["a"] != change["b"]:
        return f"{change['a']} -> {change['b']}"
    return "new values" if change["rel_l2"] is None else f"relative change {change['rel_l2']:.2g}"


def _listing(lines: Sequence[str]) -> Iterator[RenderableType]:
    if not lines:
        return
    yield ""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines[:LINES_SHOWN]:
        yield Text(shorten(line, LINE_WIDTH), style=styles.get(line[:1], ""))
    if len(lines) > LINES_SHOWN:
        yield Text(f"and {len(lines) - LINES_SHOWN} more lines (all of them with --json)", style="dim")


def _outputs(outputs: Mapping[str, Any]) -> Text:
    if outputs["reason"]:
        return Text(f"outputs differ: {outputs['reason']}", style="bold red")
    verdict = "equal to float tolerance" if outputs["exact"] else "different"
    figures = (
        f"relative L2 {outputs['rel_l2']:.3g}, cosine {outputs['cosine']:.6f}, top-1 {outputs['top1']:.1%}"
    )
    worst = f", worst output {shorten(outputs['output'])}" if outputs["output"] else ""
    return Text(f"outputs: {verdict}; {figures}, max abs {outputs['max_abs']:.3g}{worst}", style="bold")
