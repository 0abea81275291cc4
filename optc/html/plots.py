"""Plots as inline SVG: bars by pass, bars before and after, and the roofline. No script, no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _ROW = 420, 22
_LABEL = 130  # left of the bars
_VALUE = 74  # right of them
_NAMED = 4  # points of the roofline that have their name beside them, where there is room
_LETTER, _LINE = 6.5, 12.0  # of names: how wide a letter is at most, and how high a line


@dataclass(frozen=True)
class Tradeoff:
    """A setting: what it costs (y) where it takes x, what is written at it and when pointed at."""

    name: str
    x: float
    y: float
    asked: bool
    tip: str


def bars(
    title: str, rows: Sequence[tuple[str, float]], show: Callable[[float], str], *, log: bool = False
) -> str:
    """One horizontal bar per row; with ``log`` their lengths are logarithms (a zero has no bar)."""
    scale = _log_scale(rows) if log else _linear_scale([value for _, value in rows])
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for index, (name, value) in enumerate(rows):
        y, length = index * _ROW, max(scale(value) * room, 1.5 if value else 0)
        parts.append(_label(name, y))
        parts.append(
            f'<rect class="after" x="{_LABEL}" y="{y + 4}" width="{length:.1f}" height="13" rx="2"/>'
        )
        parts.append(_text(_LABEL + length + 6, y + 15, show(value)))
    return _figure(title, parts, len(rows) * _ROW)


def pairs(title: str, rows: Sequence[tuple[str, float, float]], show: Callable[[float], str]) -> str:
    """Two bars per row: before and after."""
    scale = _linear_scale([value for _, *both in rows for value in both])
    room, parts = _WIDTH - _LABEL - _VALUE, []
    for index, (name, *both) in enumerate(rows):
        y = index * (_ROW + 8)
        parts.append(_label(name, y + 4))
        for line, (kind, value) in enumerate(zip(("before", "after"), both, strict=True)):
            length, top = scale(value) * room, y + 3 + line * 12
            parts.append(
                f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length:.1f}" height="10" rx="2"/>'
            )
            shown = show(value) if value else "none"
            parts.append(_text(_LABEL + length + 6, top + 9, shown, soft=kind == "before"))
    return _figure(title, parts, len(rows) * (_ROW + 8))


def roofline(title: str, machine: Mapping[str, float], ops: Sequence[Mapping[str, Any]]) -> str:
    """Operators by arithmetic intensity and measured speed, under what the machine can do; both axes log."""
    peak, stream = machine["flops_per_s"] / 1e9, machine["bytes_per_s"] / 1e9
    points = [
        (op["op"], op["flops"] / op["bytes"], op["flops"] / (op["ms"] / 1e3) / 1e9, op["ms"]) for op in ops
    ]
    low_x = min(0.05, *(x for _, x, _, _ in points))
    high_x = max(8 * peak / stream, *(1.5 * x for _, x, _, _ in points))
    low_y = min(0.5 * stream * low_x, *(y / 2 for _, _, y, _ in points))
    high_y = max(2 * peak, *(4 * y for _, _, y, _ in points))  # room for a name above the highest
    width, height, left = _WIDTH, 250, 44
    x = _log_axis(low_x, high_x, left, width - 8)
    y = _log_axis(low_y, high_y, height - 26, 8)
    parts = _grid(x, y, (low_x, high_x), (low_y, high_y), (left, width - 8, height - 26))
    ridge = peak / stream
    path = [(low_x, stream * low_x), (ridge, peak), (high_x, peak)]
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in path)
    parts.append(f'<polyline class="roof" points="{line}"/>')
    slowest = max(ms for *_, ms in points)
    points.sort(key=lambda point: -point[3])
    for name, a, b, ms in points:
        radius = 3 + 9 * math.sqrt(ms / slowest)
        tip = f"<title>{escape(name)}: {ms:.3f} ms, {b:.1f} GFLOP/s, {a:.2f} FLOP per byte</title>"
        place = f'cx="{x(a):.1f}" cy="{y(b):.1f}" r="{radius:.1f}"'
        parts.append(f'<circle class="after" opacity=".75" {place}>{tip}</circle>')
    note = f"{peak:.0f} GFLOP/s"
    parts.append(_text(width - 8, y(peak) - 5, note, anchor="end", soft=True))
    taken = [(width - 8 - _LETTER * len(note), width - 8.0, y(peak) - 5)]
    for name, a, b, _ in points[:_NAMED]:
        short = name.rpartition("::")[2]
        half = _LETTER * len(short) / 2
        middle = min(max(x(a), left + half), width - 8 - half)
        for down in (y(b) - 12, y(b) + 20):  # above its point, or below it
            box = (middle - half, middle + half, down)
            if down < height - 26 and not any(_overlap(box, other) for other in taken):
                parts.append(_text(middle, down, short, anchor="middle"))
                taken.append(box)
                break
    return _figure(title, parts, height)


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    """Whether two lines of text, each from where to where and how far down, touch."""
    return a[0] < b[1] and b[0] < a[1] and abs(a[2] - b[2]) < _LINE


def tradeoff(
    title: str, points: Sequence[Tradeoff], *, limit: float | None = None, limit_name: str = ""
) -> str:
    """Points along a line, in their order; the one that was asked for is filled. Both axes linear."""
    width, height, left, bottom = _WIDTH, 250, 52, 224
    range_x = _range([point.x for point in points])
    range_y = _range([point.y for point in points] + ([] if limit is None else [limit]))
    x, y = _linear_axis(range_x, left, width - 8), _linear_axis(range_y, bottom, 8)
    parts = []
    for at in _ticks(range_x):
        parts.append(f'<line class="axis" x1="{x(at):.1f}" y1="8" x2="{x(at):.1f}" y2="{bottom}"/>')
        parts.append(_text(x(at), bottom + 14, f"{at:g}", anchor="middle", soft=True))
    for at in _ticks(range_y):
        parts.append(f'<line class="axis" x1="{left}" y1="{y(at):.1f}" x2="{width - 8}" y2="{y(at):.1f}"/>')
        parts.append(_text(left - 5, y(at) + 4, f"{at:g}", anchor="end", soft=True))
    if limit is not None:
        parts.append(f'<polyline class="roof" points="{left},{y(limit):.1f} {width - 8},{y(limit):.1f}"/>')
        parts.append(_text(width - 10, y(limit) - 5, limit_name, anchor="end", soft=True))
    line = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in points)
    parts.append(f'<polyline class="line" points="{line}"/>')
    last = {-10.0: -math.inf, 20.0: -math.inf}  # where the last name above and below the points ends
    for point in sorted(points, key=lambda point: point.x):
        at, room = x(point.x), 3.5 * len(point.name)
        kind, place = "after" if point.asked else "hollow", f'cx="{at:.1f}" cy="{y(point.y):.1f}"'
        parts.append(f'<circle class="{kind}" {place} r="5"><title>{escape(point.tip)}</title></circle>')
        side = next((side for side, end in last.items() if at - room > end), None)
        if side is not None:
            parts.append(_text(at, y(point.y) + side, point.name, anchor="middle"))
            last[side] = at + room
    return _figure(title, parts, height)


def _grid(
    x: Callable[[float], float],
    y: Callable[[float], float],
    range_x: tuple[float, float],
    range_y: tuple[float, float],
    box: tuple[float, float, float],
) -> list[str]:
    left, right, bottom = box
    parts = []
    for power in range(math.ceil(math.log10(range_x[0])), math.floor(math.log10(range_x[1])) + 1):
        at = x(10.0**power)
        parts.append(f'<line class="axis" x1="{at:.1f}" y1="8" x2="{at:.1f}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 14, f"{10.0**power:g}", anchor="middle", soft=True))
    for power in range(math.ceil(math.log10(range_y[0])), math.floor(math.log10(range_y[1])) + 1):
        at = y(10.0**power)
        parts.append(f'<line class="axis" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(_text(left - 5, at + 4, f"{10.0**power:g}", anchor="end", soft=True))
    return parts


def _log_axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low)
    return lambda value: start + (end - start) * math.log(value / low) / span


def _linear_axis(between: tuple[float, float], start: float, end: float) -> Callable[[float], float]:
    low, high = between
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Around all values, with room for what is written at them."""
    low, high = min(values), max(values)
    room = 0.18 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _ticks(between: tuple[float, float]) -> list[float]:
    """Three to seven round numbers."""
    low, high = between
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(size for size in (5 * power, 2 * power, power) if (high - low) / size >= 3)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _linear_scale(values: Sequence[float]) -> Callable[[float], float]:
    largest = max(values, default=0) or 1
    return lambda value: value / largest


def _log_scale(rows: Sequence[tuple[str, float]]) -> Callable[[float], float]:
    """From a tenth of the smallest to the largest."""
    found = [value for _, value in rows if value > 0]
    if not found:
        return lambda value: 0.0
    low, high = min(found) / 10, max(found)
    return lambda value: math.log(value / low) / math.log(high / low) if value > 0 else 0.0


def _label(name: str, y: float) -> str:
    short = name if len(name) <= 19 else name[:18] + "…"
    return _text(_LABEL - 8, y + 15, short, anchor="end", tip=name)


def _text(
    x: float, y: float, content: str, *, anchor: str = "start", soft: bool = False, tip: str = ""
) -> str:
    mark = ' class="soft"' if soft else ""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<text{mark} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}{title}</text>'


def _figure(title: str, parts: Sequence[str], height: float) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    return f"<figure><figcaption>{escape(title)}</figcaption>{head}{''.join(parts)}</svg></figure>"
