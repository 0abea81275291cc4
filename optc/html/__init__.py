"""``report.html``: the report as one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from optc import amounts
from optc.report_text import columns, legend, relative_error

from . import curves, plots, tables
from .style import CSS

__all__ = ["page"]

_SHOWN_OPERATORS = 12


def page(report: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        report: what `Artifact.report` holds; parts that were not measured are left out.
    """
    detail = report["final"]["detail"]
    sections = [
        _section("What each pass did", tables.ledger(report) + _small(columns(report))),
        _section("By pass", _by_pass(report["passes"])),
        *(_section(curves.title(each), curves.section(each)) for each in report.get("curves", ())),
        _section("Where the time goes", _operators(detail)),
        _section("What the gate measured", _gate(detail)),
        _section("What was left alone, and why", tables.left_alone(report)),
        _section("Notes", "".join(f"<p>{escape(note)}</p>" for note in _notes(detail))),
    ]
    title = f"optc: {report['source']}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f"<h1>{escape(str(report['source']))}</h1>"
        f'<p class="sub">compiled by optc for {escape(str(report["target"]))}, '
        f"{report['threads']} thread{'s' if report['threads'] != 1 else ''}</p>"
        f"{_cards(report)}{''.join(sections)}</body></html>\n"
    )


def _gate(detail: Mapping[str, Any]) -> str:
    rows = detail.get("gate")
    return "".join((tables.gate(rows), *map(_small, legend(rows)))) if rows else ""


def _small(text: str) -> str:
    return f'<p class="key soft">{escape(text)}</p>'


def _notes(detail: Mapping[str, Any]) -> list[str]:
    notes = [str(note) for note in detail.get("notes", ())]
    if reason := detail.get("not_profiled"):
        notes.append(f"There is no time by operator, because the runtime's profiler failed: {reason}")
    return notes


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _cards(report: Mapping[str, Any]) -> str:
    final = report["final"]
    speed = final["detail"].get("speedup")
    shapes = final["detail"].get("speedup_by_shape", {})
    small = ", ".join(f"{shape}: {value:.2f}×" for shape, value in shapes.items())
    ratio = final["bytes_before"] / final["bytes_after"] if final["bytes_after"] else None
    cards = [
        ("not measured" if speed is None else f"{speed:.2f}×", small or "speed against the plain model"),
        (
            f"{amounts.megabytes(final['bytes_after'])} MB",
            f"weights, from {amounts.megabytes(final['bytes_before'])} MB",
        ),
        (tables.error(final["error"]), "relative error of the outputs"),
        (str(sum(final["matched"].values())), "rewrites"),
    ]
    if ratio and ratio > 1.05:
        cards[1] = (cards[1][0], f"{cards[1][1]} ({ratio:.1f}× smaller)")
    return '<div class="cards">' + "".join(map(_card, cards)) + "</div>"


def _card(content: tuple[str, str]) -> str:
    value, meaning = content
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(meaning)}</span></div>'


def _by_pass(passes: Sequence[Mapping[str, Any]]) -> str:
    kept = [row for row in passes if not row["reverted"]]
    figures = []
    times = _steps(kept, "ms")
    if len(times) > 1:
        figures.append(plots.bars("Latency after each pass (ms)", times, amounts.milliseconds))
    sizes = _steps(kept, "bytes")
    if len(sizes) > 1:
        figures.append(plots.bars("Weights after each pass (MB)", sizes, amounts.megabytes))
    taken = [(row["name"], relative_error(row["error"])) for row in kept]
    errors = [(name, value) for name, value in taken if value is not None]
    if errors:
        title = "Relative error after each pass (log scale)"
        figures.append(plots.bars(title, errors, lambda value: f"{value:.1e}" if value else "0", log=True))
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def _steps(passes: Sequence[Mapping[str, Any]], what: str) -> list[tuple[str, float]]:
    """The captured model, then each pass that was measured."""
    measured = [row for row in passes if row.get(f"{what}_after") is not None]
    if not measured:
        return []
    first = measured[0].get(f"{what}_before")
    start = [] if first is None else [("captured", first)]
    return start + [(row["name"], row[f"{what}_after"]) for row in measured]


def _operators(detail: Mapping[str, Any]) -> str:
    times = detail.get("operators")
    if not times:
        return ""
    before, after = times["before"], times["after"]
    names = sorted({*before, *after}, key=lambda name: -max(before.get(name, 0), after.get(name, 0)))
    rows = [(name, before.get(name, 0.0), after.get(name, 0.0)) for name in names[:_SHOWN_OPERATORS]]
    title = "Time by operator, plain model and artifact (ms)"
    figures = [plots.pairs(title, rows, amounts.milliseconds)]
    roof = detail.get("roofline", {})
    if roof.get("ops"):
        title = "Roofline of the artifact: GFLOP/s against FLOP per byte; larger dots take longer"
        figures.append(plots.roofline(title, roof["machine"], roof["ops"]))
    key = (
        '<p class="key soft">bars:<i style="background:var(--before)"></i>plain model'
        '<i style="background:var(--after)"></i>artifact</p>'
    )
    return f'<div class="plots">{"".join(figures)}</div>{key}'
