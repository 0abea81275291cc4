"""The report as a person reads it in a terminal, and progress bars."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from optc import amounts, curve_view
from optc.report_text import columns, legend, measured, verdict
from optc.report_text import error as told

_REASONS_SHOWN = 6


def render(report: Mapping[str, Any], directory: Path | None = None) -> RenderableType:
    """The ledger: one row per pass, what the gate decided, what was left alone and why."""
    parts: list[RenderableType] = [_header(report), _passes(report), _note(columns(report))]
    if decisions := _decisions(report):
        parts += [decisions, *map(_note, legend(report["final"]["detail"]["gate"]))]
    parts += [curve_view.render(found) for found in report.get("curves", ())]
    if skipped := _skipped(report):
        parts.append(skipped)
    parts += [_note(f"note: {note}") for note in report["final"]["detail"].get("notes", ())]
    if "validation" in report:
        parts.append(_validation(report["validation"]))
    parts.append(_verdict(report))
    if directory is not None:
        parts.append(Text.from_markup(f"artifact: [bold]{escape(str(directory))}[/]"))
    return Group(*parts)


def _note(text: str) -> Text:
    return Text(text, style="dim")


def _validation(found: Mapping[str, Any]) -> Text:
    checked, unchecked = (sum(found[key].values()) for key in ("checked", "unchecked"))
    reasons = ", ".join(sorted(found["unchecked"]))
    left = f"; {unchecked} could not be: {reasons}" if unchecked else ""
    return _note(f"validated: {checked} rewrites checked, none is wrong{left}")


def _header(report: Mapping[str, Any]) -> Text:
    return Text.from_markup(
        f"[bold]{escape(str(report['source']))}[/] for target [bold]{report['target']}[/], "
        f"{report['threads']} threads"
    )


def _passes(report: Mapping[str, Any]) -> Table:
    table = Table(title=None, header_style="bold", expand=False)
    for name, justify in (
        ("pass", "left"),
        ("what it did", "left"),
        ("error", "right"),
        ("ms", "right"),
        ("MB", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in report["passes"]:
        table.add_row(
            _name(row),
            _did(row),
            _error(row["error"]),
            *_costs(row),
        )
    final = report["final"]
    table.add_section()
    table.add_row(
        "[bold]all[/]",
        "",
        _error(final["error"]),
        *_costs(final),
    )
    return table


def _name(row: Mapping[str, Any]) -> str:
    options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
    return escape(row["name"] + (f"{{{options}}}" if options else ""))


def _did(row: Mapping[str, Any]) -> str:
    if row["reverted"]:
        return f"[red]undone: {escape(str(row['reverted']))}[/]"
    if not row["changed"]:
        return "[dim]nothing to do[/]"
    return escape(", ".join(f"{count} {name}" for name, count in sorted(row["matched"].items()))) or "changed"


def _error(error: Mapping[str, Any] | None) -> str:
    text = told(error) or "-"
    return text if text[0].isdigit() else f"[dim]{text}[/]"


def _costs(row: Mapping[str, Any]) -> tuple[str, str]:
    """Milliseconds and megabytes, before and after."""
    ms = amounts.change(row["ms_before"], row["ms_after"], amounts.milliseconds)
    size = amounts.change(row["bytes_before"], row["bytes_after"], amounts.megabytes)
    return ms or "[dim]-[/]", size or "[dim]-[/]"


def _decisions(report: Mapping[str, Any]) -> Table | None:
    rows = report["final"]["detail"].get("gate") or []
    if not rows:
        return None
    table = Table(title="gate", title_justify="left", header_style="bold")
    for name in ("family", "time ratio (95%)", "verdict"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(escape(row["what"]), measured(row) or "-", escape(verdict(row)))
    return table


def _skipped(report: Mapping[str, Any]) -> Text | None:
    reasons: Counter[str] = Counter()
    for row in report["passes"]:
        for skip in row["skipped"]:
            reasons[f"{row['name']}: {skip['reason']}"] += 1
    if not reasons:
        return None
    lines = [f"  {count:>3}x {reason}" for reason, count in reasons.most_common(_REASONS_SHOWN)]
    if len(reasons) > _REASONS_SHOWN:
        lines.append(f"       and {len(reasons) - _REASONS_SHOWN} more reasons in report.json")
    return _note("left alone:\n" + "\n".join(lines))


def _verdict(report: Mapping[str, Any]) -> Text:
    final = report["final"]
    ratio = final["detail"].get("speedup")
    if ratio is None:
        reason = next((row["reason"] for row in final["detail"].get("gate", ())[-1:]), "the gate was off")
        return _note(f"speed: not measured ({reason.removeprefix('not measured: ')})")
    shapes = final["detail"].get("speedup_by_shape", {})
    by_shape = ", ".join(f"{shape}: {value:.2f}x" for shape, value in shapes.items())
    return Text(
        f"speed against the plain export: {ratio:.2f}x" + (f"  ({by_shape})" if by_shape else ""),
        style="bold",
    )


def describe(value: Any) -> str:
    """An output value in a few words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return f"sequence of {len(value)}" if isinstance(value, list) else repr(value)


def outputs_table(summary: Mapping[str, str], file: Path) -> RenderableType:
    """What ``optc run`` wrote."""
    table = Table(header_style="bold")
    table.add_column("output")
    table.add_column("value")
    for name, text in summary.items():
        table.add_row(escape(name), escape(text))
    return Group(table, Text(f"written to {file}"))


@contextlib.contextmanager
def progress(*, enabled: bool) -> Iterator[Callable[[Iterable[Any], str], Iterable[Any]]]:
    """A bar on stderr for anything that iterates; shown only on a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (enabled and console.is_terminal)
    ) as bar:

        def track(items: Iterable[Any], description: str) -> Iterator[Any]:
            total = len(items) if isinstance(items, Sized) else None
            task = bar.add_task(description, total=total)
            for item in items:
                yield item
                bar.advance(task)
            bar.remove_task(task)

        yield track
