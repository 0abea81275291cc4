"""The tables of `optc inspect`; they fit 100 columns whatever the names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from optc.amounts import duration

NAME_WIDTH = 40
OPS_SHOWN = 12
VALUES_SHOWN = 12
FIGURES = ("nodes", "params", "FLOPs", "bytes", "roofline", "share")


def render(data: Mapping[str, Any]) -> RenderableType:
    """Returns what `inspect_data` found (and the ledger of an artifact, if it is there) for a terminal."""
    parts: list[RenderableType] = [
        _header(data["model"]),
        "",
        _blocks(data),
        "",
        _ops(data),
        "",
        _footer(data),
    ]
    if "tuned" in data:
        parts += _tuned(data["tuned"])
    if "ledger" in data:
        from optc import ledger

        parts += [Text("ledger", style="bold"), ledger.render(data["ledger"])]
    return Group(*parts)


def _tuned(tuned: Mapping[str, Any]) -> list[RenderableType]:
    machine = tuned["machine"]
    if not machine:
        return []
    bits = machine.get("int8_weight_bits")
    facts = [str(machine.get("architecture")), *map(str, machine.get("features", ()))]
    text = f"tuned for {' '.join(facts)}" + (f"; int8 weights of {bits} bits" if bits else "")
    return [Text(text), *(Text(f"here: {told}", style="yellow") for told in tuned["here"]), ""]


def shorten(name: str, width: int = NAME_WIDTH) -> str:
    """Cuts a long name in the middle: both ends of a dotted path say something."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}\u2026{name[len(name) - (width - 1 - head) :]}"


def count(number: int | str | None, unit: str = "") -> str:
    """Returns ``2.89 G``, ``91.3 MB``; what is not a number as it is."""
    if not isinstance(number, int):
        return "?" if number is None else shorten(number, 16)
    value = float(number)
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 1000 or prefix == "T":
            text = f"{value:.0f}" if not prefix else f"{value:.3g}" if value < 100 else f"{value:.0f}"
            return f"{text} {prefix}{unit}".rstrip()
        value /= 1000
    raise AssertionError("the last prefix takes everything")


def _header(model: Mapping[str, Any]) -> Table:
    weights = model["weights"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    opsets = ", ".join(f"{domain} {version}" for domain, version in model["opsets"].items())
    producer = f", from {model['producer']}" if model["producer"] else ""
    table.add_row("model", Text(f"{shorten(model['name'] or '(unnamed)')}{producer}"))
    table.add_row("version", Text(f"IR {model['ir_version']}, opset {opsets}"))
    for title in ("inputs", "outputs"):
        table.add_row(title, Text("\n".join(_values(model[title])) or "none"))
    table.add_row("graph", Text(f"{model['nodes']} nodes"))
    if model["functions"]:
        calls = [f"{shorten(f['name'])} \u00d7{f['calls']}" for f in model["functions"]]
        table.add_row("functions", Text(", ".join(calls)))
    size = f"{count(weights['parameters'])} parameters in {weights['tensors']} tensors"
    table.add_row("weights", Text(f"{size}, {count(weights['bytes'], 'B')}"))
    return table


def _values(values: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for value in values[:VALUES_SHOWN]:
        yield f"{shorten(value['name'])}: {value['type']}"
    if len(values) > VALUES_SHOWN:
        yield f"and {len(values) - VALUES_SHOWN} more"


def _blocks(data: Mapping[str, Any]) -> Table:
    table = Table(title="blocks", title_justify="left", title_style="bold", header_style="bold")
    table.add_column("where", no_wrap=True)
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for rows in _runs(data["groups"]):
        if not rows[0]["nodes"]:
            continue
        table.add_row(_where(rows), *_figures(rows))
        for position, part in enumerate(rows[0].get("parts", ())):
            if len(rows[0]["parts"]) > 1:
                same = [row["parts"][position] for row in rows]
                table.add_row(f"  {part['kind']}", *_figures(same), style="dim")
    table.add_section()
    table.add_row("all", *_figures([{**data["total"], "share": 1.0}]), style="bold")
    return table


def _runs(groups: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Neighbouring blocks that look alike share a row."""
    for _, rows in groupby(groups, key=_likeness):
        yield list(rows)


def _likeness(row: Mapping[str, Any]) -> tuple[Any, ...]:
    parts = tuple((part["kind"], part["nodes"], part["flops"]) for part in row.get("parts", ()))
    name = "" if row["kind"] else row["name"]
    return (name, row["kind"], row.get("stream"), row["parameters"], row["flops"], parts)


def _where(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    if not first["kind"]:
        return str(first["name"])
    if len(rows) == 1:
        return f"{first['name']} {first['kind']}"
    last = rows[-1]["name"].removeprefix("block ")
    return f"{first['name']}\u2013{last} {first['kind']} \u00d7{len(rows)}"


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ms = sum(row["ms"] for row in rows)
    share = sum(row["share"] for row in rows)
    return [
        str(sum(row["nodes"] for row in rows)),
        count(sum(row["parameters"] for row in rows)),
        count(_added([row["flops"] for row in rows])),
        count(_added([row["bytes"] for row in rows]), "B"),
        duration(ms),
        f"{share:.0%}",
    ]


def _added(amounts: Sequence[Any]) -> int | str | None:
    if all(isinstance(amount, int) for amount in amounts):
        return int(sum(amounts))
    return str(amounts[0]) if len(amounts) == 1 else None


def _ops(data: Mapping[str, Any]) -> Table:
    table = Table(title="operators", title_justify="left", title_style="bold", header_style="bold")
    table.add_column("operator", no_wrap=True)
    for name in ("count", "FLOPs", "bytes", "roofline", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in data["ops"][:OPS_SHOWN]:
        table.add_row(
            Text(shorten(row["op"])),
            str(row["count"]),
            count(row["flops"]),
            count(row["bytes"], "B"),
            duration(row["ms"]),
            f"{row['share']:.0%}",
        )
    rest = data["ops"][OPS_SHOWN:]
    if rest:
        number = sum(row["count"] for row in rest)
        ms, share = sum(row["ms"] for row in rest), sum(row["share"] for row in rest)
        table.add_row(f"{len(rest)} others", str(number), "", "", duration(ms), f"{share:.0%}", style="dim")
    return table


def _footer(data: Mapping[str, Any]) -> RenderableType:
    machine = data["machine"]
    sizes = ", ".join(f"{name}={size}" for name, size in data["bind"].items())
    lines = [f"at {sizes}"] if sizes else []
    if data["assumed"]:
        lines.append(f"no size was given for {', '.join(data['assumed'])}: taken as 1 (--dim NAME=SIZE)")
    peak = count(data["total"]["peak_activation_bytes"], "B")
    lines.append(f"peak memory of activations, unfused, in graph order: {peak}")
    rates = (f"{machine['flops_per_s'] / 1e9:.0f} GFLOP/s", f"{machine['bytes_per_s'] / 1e9:.0f} GB/s")
    lines.append(f"roofline with {' and '.join(rates)}")
    lines += [f"note: {note}" for note in data["notes"][:6]]
    return Padding(Text("\n".join(lines), style="dim"), 0)
