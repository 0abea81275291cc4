"""What `optc passes` and `optc targets` list, read from the docstrings and fields themselves."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from optc import pipeline_text, registry


def passes() -> list[dict[str, Any]]:
    """Every pass with its one-line summary."""
    return [one_pass(name) for name in registry.pass_names()]


def one_pass(name: str) -> dict[str, Any]:
    """One pass with its options, their types and defaults."""
    found = registry.find_pass(name)
    hints = typing.get_type_hints(found)
    doc = inspect.cleandoc(found.__doc__ or "")
    return {
        "name": name,
        "summary": doc.splitlines()[0] if doc else "",
        "doc": doc,
        "exact": found.exact,
        "plain": found.plain,
        "options": [
            {
                "name": f.name.replace("_", "-"),
                "type": _type(hints[f.name]),
                "default": _default(f),
                "meaning": f.metadata.get("meaning", ""),
            }
            for f in dataclasses.fields(found)
        ],
    }


def targets() -> list[dict[str, Any]]:
    """Every target with its one-line summary."""
    return [one_target(name) for name in registry.target_names()]


def one_target(name: str) -> dict[str, Any]:
    """One target with its pipelines and lowerings."""
    target = registry.find_target(name)
    return {
        "name": target.name,
        "summary": target.summary,
        "pipelines": {f"-O{level}": text for level, text in sorted(target.pipelines.items())},
        "lowerings": [{"kind": w.kind, "name": w.name, "family": w.family} for w in target.lowerings],
        "layouts": [{"name": layout.name, "family": layout.family} for layout in target.layouts],
        "usable_here": target.check_machine() or "yes",
    }


def render(found: Any) -> RenderableType:
    """A list as a table, one entry with its parts."""
    if isinstance(found, list):
        table = Table(header_style="bold")
        table.add_column("name")
        table.add_column("what it does", overflow="fold")
        passes = any("exact" in item for item in found)
        if passes:
            table.add_column("changes results")
        for item in found:
            changes = ["no" if item["exact"] else "yes"] if passes else []
            table.add_row(escape(item["name"]), escape(item["summary"]), *changes)
        return table
    return _render_pass(found) if "options" in found else _render_target(found)


def _render_pass(item: Mapping[str, Any]) -> RenderableType:
    table = Table("option", header_style="bold")
    for column, ratio in (("values", 1), ("default", None), ("meaning", 2)):
        table.add_column(column, overflow="fold", ratio=ratio)
    for option in item["options"]:
        default = pipeline_text.write_value(option["default"])
        table.add_row(*map(escape, (option["name"], option["type"], default, option["meaning"])))
    kind = "exact" if item["exact"] else "lossy"
    head = Text.from_markup(f"[bold]{escape(item['name'])}[/] ({kind})")
    # Lines of a docstring are as long as those of the code; here a paragraph has the width of the terminal.
    about = "\n\n".join(" ".join(part.split()) for part in item["doc"].replace("``", "`").split("\n\n"))
    return Group(head, Text(about), table if item["options"] else Text("no options", style="dim"))


def _render_target(item: Mapping[str, Any]) -> RenderableType:
    pipelines = Table("level", "pipeline", header_style="bold")
    for level, text in item["pipelines"].items():
        pipelines.add_row(level, escape(text) or "[dim](empty)[/]")
    lowerings = Table("fused op", "becomes", "family", header_style="bold")
    for entry in item["lowerings"]:
        lowerings.add_row(entry["kind"], entry["name"], entry["family"])
    for entry in item["layouts"]:
        lowerings.add_row("(any program)", entry["name"], entry["family"])
    head = Text.from_markup(f"[bold]{escape(item['name'])}[/]  {escape(item['summary'])}")
    kernels = lowerings if lowerings.row_count else Text("no kernels of its own for fused operators")
    return Group(head, pipelines, kernels, Text(f"usable on this machine: {item['usable_here']}"))


_TYPES = {bool: "true, false", type(None): "none", str: "text", int: "whole number", float: "number"}


def _type(hint: Any) -> str:
    """The values of an option as people write them."""
    if typing.get_origin(hint) is Literal:
        return ", ".join(str(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_type(part) for part in typing.get_args(hint))
    return _TYPES.get(hint, str(hint.__name__))


def _default(field: dataclasses.Field[Any]) -> Any:
    return None if field.default is dataclasses.MISSING else field.default
