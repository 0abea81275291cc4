"""The table of `optc bench`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_STYLES = {"faster": "bold green", "slower": "bold red"}


def render(data: Mapping[str, Any]) -> RenderableType:
    """Returns what `bench_data` found for a terminal."""
    rows = data["contestants"]
    table = Table(header_style="bold")
    table.add_column("", overflow="fold")
    for name in ("ms", "speedup (95%)", "first answer", "memory", "file", "error"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        reference = row is rows[0]
        table.add_row(
            escape(row["name"]) + (f" [dim]{row['kind']}[/]" if row["kind"] == "eager" else ""),
            f"{row['ms']:.4g}",
            "[dim]reference[/]" if reference else _speedup(row),
            f"{row['load_seconds']:.2f} s",
            _mb(row["peak_bytes"]),
            _mb(row["file_bytes"]),
            "" if reference else _error(row["rel_l2"]),
        )
    return Group(table, *(_sentence(row, rows[0]) for row in rows[1:]), _footer(data))


def _speedup(row: Mapping[str, Any]) -> str:
    interval = "" if row["low"] is None or row["high"] is None else f" ({row['low']:.2f}-{row['high']:.2f})"
    return f"{row['speedup']:.2f}x{interval}"


def _sentence(row: Mapping[str, Any], reference: Mapping[str, Any]) -> Text:
    pair = f"{row['name']} and {reference['name']}"
    if row["verdict"] == "no difference":
        return Text(f"no difference between {pair}: what was seen is within noise")
    if row["verdict"] == "too few sessions":
        return Text(f"too few sessions to tell {pair} apart; six give an interval", style="yellow")
    factor = row["speedup"] if row["verdict"] == "faster" else 1 / row["speedup"]
    text = f"{row['name']} is {factor:.2f}x {row['verdict']} than {reference['name']}"
    return Text(text, style=_STYLES[row["verdict"]])


def _footer(data: Mapping[str, Any]) -> Text:
    arrays = ", ".join(f"{name} {text}" for name, text in data["inputs"]["arrays"].items())
    lines = [f"inputs: {data['inputs']['from']}: {arrays or 'none'}"]
    count = data["sessions"]
    lines.append(f"{count} fresh session{'s' * (count != 1)} of each, {data['threads']} threads, medians")
    return Text("\n".join(lines), style="dim")


def _mb(size: int | None) -> str:
    return "[dim]-[/]" if size is None else f"{size / 1e6:.4g} MB" if size >= 1e4 else f"{size / 1e3:.3g} kB"


def _error(error: float | None) -> str:
    return "[yellow]other outputs[/]" if error is None else "0" if error == 0 else f"{error:.1e}"
