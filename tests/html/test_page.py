"""report.html: well formed, self-contained, and true to the report."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

import optc
from optc.html import page, plots
from optc.html.style import CSS


class Outline(HTMLParser):
    """Collects the visible text, and fails on tags that are closed in the wrong order."""

    void = frozenset({"meta", "i"})

    def __init__(self) -> None:
        super().__init__()
        self.text, self.open, self.links = "", [], []
        self.kind, self.around = "", []  # the class of the last tag, and those that tables stand in

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.around.append(self.kind)
        self.kind = dict(attrs).get("class") or ""
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    assert not found.open
    return found


def test_errors_that_are_no_numbers_are_words(tmp_path: Path) -> None:
    """Labels alone, and results that became NaN: neither is 0, and JSON has no infinity."""
    text = """<ir_version: 10, opset_import: ["": 20]> g (float[n,4] x) => (int64[n] y, float[n,4] z)
        <float four = {4.0}> { h = Div(x, four)  z = Sqrt(x)  y = ArgMax<axis = 1, keepdims = 0>(h) }"""
    made = optc.compile(ir.from_onnx_text(text), inputs={"x": np.ones((2, 4), np.float32)}, gate=False)
    worst = {"rel_l2": math.inf, "cosine": math.nan, "top1": 0.0, "max_abs": 0.0, "output": "z"}
    labels = {"rel_l2": 0.0, "cosine": 1.0, "top1": 1.0, "max_abs": 0.0, "output": ""}
    made.report["passes"][0]["error"] = {**worst, "excess": math.inf, "reason": "z: NaN at other places"}
    made.report["final"]["error"] = {**labels, "excess": math.inf, "reason": "y: not identical"}
    made.save(tmp_path / "out")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    stored = (tmp_path / "out" / "report.json").read_text()
    report = json.loads(stored, parse_constant=refuse)
    assert report["passes"][0]["error"]["rel_l2"] is None
    shown = outline((tmp_path / "out" / "report.html").read_text())
    assert shown.text.count("values differ") == 3 and "inf" not in shown.text.split("values differ")[0]


def row(name: str, **given: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("error", "ms_before", "ms_after", "bytes_before", "bytes_after", "reverted"))
    return (
        {"name": name, "options": {}, "changed": True, "matched": {}, "skipped": [], "detail": {}}
        | empty
        | given
    )


def report(*passes: dict[str, Any], **detail: Any) -> dict[str, Any]:
    error = {"rel_l2": 0.0123, "cosine": 0.99, "top1": 1.0}
    final = row(
        "all", error=error, bytes_before=4_000_000, bytes_after=1_000_000, detail=detail, matched={"gelu": 2}
    )
    return {"source": "a<b>.onnx", "target": "cpu", "threads": 2, "passes": list(passes), "final": final}


OPERATORS = {"before": {"MatMul": 2.0, "Erf": 0.5}, "after": {"MatMul": 1.5, "Gelu": 0.1}}
ROOFLINE = {
    "machine": {"flops_per_s": 1e11, "bytes_per_s": 2e10},
    "ops": [{"op": "MatMul", "flops": 90_000_000, "bytes": 2_000_000, "ms": 1.5}],
}


def test_everything_that_was_measured_is_on_it() -> None:
    skipped = [
        {"node": "n1", "reason": "scale is not a constant"},
        {"node": "n2", "reason": "scale is not a constant"},
    ]
    passes = (
        row(
            "simplify",
            bytes_before=4_000_000,
            bytes_after=3_500_000,
            ms_before=4.0,
            ms_after=3.5,
            skipped=skipped,
        ),
        row("quantize", reverted="0.93x (0.91 to 0.95) slower"),
    )
    gate = [{"what": "attention", "ratio": 0.9, "low": 0.88, "high": 0.93, "verdict": "kept"}]
    found = outline(page(report(*passes, speedup=1.234, operators=OPERATORS, roofline=ROOFLINE, gate=gate)))
    for expected in (
        "a<b>.onnx", "1.23×", "1.0 MB", "4.0× smaller", "1.2e-02", "undone: 0.93x", "4.00 → 3.50", "2 × ",
        "scale is not a constant", "0.900 (0.880 to 0.930)", "Gelu", "100 GFLOP/s", "FLOP per byte",
    ):  # fmt: skip
        assert expected in found.text, expected


def test_what_was_not_measured_is_left_out() -> None:
    text = outline(page(report(row("simplify")))).text
    assert "not measured" in text
    assert "Roofline" not in text and "gate" not in text and "left alone" not in text


def test_it_says_why_there_is_no_time_by_operator() -> None:
    text = outline(page(report(notes=["one"], not_profiled="no <room> for the trace"))).text
    assert "one" in text and "profiler failed: no <room> for the trace" in text


def test_it_needs_no_network_and_no_script() -> None:
    text = page(report(row("simplify"), operators=OPERATORS, roofline=ROOFLINE))
    assert not outline(text).links
    assert not re.search(r"<script|url\(|@import|https?:", text)


def rule(selector: str) -> str:
    found = re.search(rf"(?:^|}} ){re.escape(selector)} \{{([^}}]*)\}}", CSS, re.MULTILINE)
    assert found is not None, selector
    return found[1]


def test_on_a_narrow_screen_tables_scroll_and_the_page_does_not() -> None:
    """Names of nodes and files are wider than a telephone and have no blank to break at."""
    point = {
        "setting": "merge-tokens{r=8}", "strength": 1, "operations": 8, "error": {"rel_l2": 0.1},
        "latency": {"x": {"ms": 1.0, "speedup": 2.0, "low": None, "high": None}},
    }  # fmt: skip
    curve = {"name": "merge-tokens", "points": [point], "allowed": {}, "left_out": []}
    gate = [{"what": "attention", "ratio": 0.9, "low": 0.88, "high": 0.93, "verdict": "kept"}]
    found = outline(page(report(row("simplify"), gate=gate) | {"curves": [curve]}))
    assert found.around == ["box", "box", "box"]
    assert "overflow-x: auto" in rule(".box")
    assert "overflow-wrap: break-word" in rule("body")
    assert "overflow-wrap: anywhere" in rule("td code")


def test_longer_bars_are_larger_values() -> None:
    svg = plots.bars("t", [("a", 1.0), ("b", 4.0)], str)
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)


def test_zero_has_no_bar_on_a_log_scale() -> None:
    svg = plots.bars("t", [("a", 0.0), ("b", 1e-6), ("c", 1e-2)], str, log=True)
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[0] == 0 and 0 < widths[1] < widths[2]


def test_the_roof_bends_where_bandwidth_meets_compute() -> None:
    svg = plots.roofline("t", ROOFLINE["machine"], ROOFLINE["ops"])
    points = re.search(r'<polyline [^>]*points="([^"]+)"', svg)
    assert points is not None
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in points[1].split())
    assert x0 < x1 < x2 and y0 > y1 == y2
    [(x, y)] = re.findall(r'<circle [^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert x1 < float(x) < x2 and float(y) > y1  # 45 FLOP per byte, 60 of 100 GFLOP/s


def test_what_is_faster_than_the_roof_lies_in_the_plot_and_names_stay_apart() -> None:
    """The machine may have been busy when its limits were measured."""
    times = {"Attention": 0.02, "MatMul": 0.025, "Gemm": 0.5, "Conv": 0.55}
    ops = [{"op": name, "flops": 4.5e7, "bytes": 1e6, "ms": ms} for name, ms in times.items()]
    svg = plots.roofline("t", ROOFLINE["machine"], ops)
    heights = [float(y) for y in re.findall(r'<circle [^>]*cy="([\d.]+)"', svg)]
    assert len(heights) == 4 and min(heights) > 8
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle">([A-Z]\w+)', svg)
    lines = [float(y) for _, y, _ in names]
    assert len(names) >= 2 and all(abs(a - b) >= 12 for a, b in itertools.combinations(lines, 2))


def test_a_compile_writes_it(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).eval()
    artifact = optc.compile(module, (torch.zeros(2, 8),), output=tmp_path / "a", gate_seconds=0.5)
    found = outline((tmp_path / "a" / "report.html").read_text(encoding="utf-8"))
    assert "simplify" in found.text and "Where the time goes" in found.text
    times = artifact.report["final"]["detail"]["operators"]
    assert all(time > 0 for side in times.values() for time in side.values())
    again = optc.load(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "b" / "report.html").read_text() == (tmp_path / "a" / "report.html").read_text()
    np.testing.assert_allclose(
        again(torch.ones(2, 8)), module(torch.ones(2, 8)).detach(), rtol=1e-4, atol=1e-5
    )
