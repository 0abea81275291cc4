"""The ledger: figures that can be told apart, and what they were taken on."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import optc
from optc import amounts, ledger, report_text


def shown(report: dict[str, Any]) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(ledger.render(report))
    return console.export_text()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> optc.Artifact:
    module = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.GELU()).eval()
    batch = torch.export.Dim("batch")
    path: Path = tmp_path_factory.mktemp("ledger") / "out"
    return optc.compile(
        module, (torch.randn(2, 8),), dynamic_shapes=({0: batch},), gate_seconds=0, gate=True, output=path
    )


def test_it_names_what_errors_and_times_were_taken_on(compiled: optc.Artifact) -> None:
    text = shown(compiled.report)
    assert "error: relative L2 of the worst output, on the example inputs (given)" in text
    assert "MB: weights" in text


def test_calibration_samples_are_named_instead_of_the_example() -> None:
    module = torch.nn.Linear(8, 4).eval()
    data = {"input": np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)}
    report = optc.compile(module, (torch.randn(2, 8),), calibration=data, gate=False).report
    assert report["inputs"]["errors_on"] == "3 calibration samples"
    assert "on 3 calibration samples" in shown(report)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        ({"skipped": "no samples"}, "not compared"),
        ({"rel_l2": 0.0, "output": "y", "reason": None}, "0"),
        ({"rel_l2": 0.0, "output": "", "reason": None}, "0"),
        ({"rel_l2": 0.02, "output": "y", "reason": "z: int64 values are not identical"}, "2.0e-02"),
        ({"rel_l2": 0.0, "output": "", "reason": "z: int64 values are not identical"}, "values differ"),
        ({"rel_l2": None, "output": "y", "reason": "y: NaN or infinity at other places"}, "values differ"),
        ({"rel_l2": math.inf, "output": "y", "reason": "y: type float32 became float16"}, "values differ"),
    ],
)
def test_an_error_of_zero_is_one_that_was_taken(error: dict[str, Any] | None, text: str | None) -> None:
    assert report_text.error(error) == text


def test_reports_of_older_artifacts_are_shown_too(compiled: optc.Artifact) -> None:
    older = {**compiled.report, "inputs": {"samples": "given"}}
    assert "error: relative L2 of the worst output; " in shown(older)


def test_the_gate_says_why(compiled: optc.Artifact) -> None:
    row = {
        "what": "gelu",
        "verdict": "undone",
        "reason": "it costs time",
        "ratio": 1.1,
        "low": 1.05,
        "high": 1.2,
    }
    detail = {"gate": [row], "ms_shape": "batch=8"}
    text = shown(
        {**compiled.report, "final": {**compiled.report["final"], "detail": detail, "ms_before": 1.0}}
    )
    assert "below 1 is faster" in text
    assert "1.100 (1.050 to 1.200) │ undone: it costs time" in text
    assert "ms: one call at batch=8;" in text


def test_what_was_not_measured_says_why(compiled: optc.Artifact) -> None:
    row = {"what": "artifact", "verdict": "kept", "reason": "not measured: there are no sample inputs"}
    final = {**compiled.report["final"], "detail": {"gate": [row]}, "ms_before": None}
    text = shown({**compiled.report, "final": final})
    assert "speed: not measured (there are no sample inputs)" in text
    assert "below 1 is faster" not in text and "one call" not in text
    assert "speed: not measured (the gate was off)" in shown(
        {**compiled.report, "final": {**final, "detail": {}}}
    )


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (amounts.milliseconds, 12.346, "12.35"),
        (amounts.milliseconds, 0.01306, "0.0131"),
        (amounts.milliseconds, 0, "0.00"),
        (amounts.megabytes, 90_868_224, "90.9"),
        (amounts.megabytes, 11_560, "0.0116"),
        (amounts.megabytes, 9, "<0.001"),
        (amounts.megabytes, 0, "0.0"),
        (amounts.duration, 123.4, "123 ms"),
        (amounts.duration, 1.234, "1.23 ms"),
        (amounts.duration, 0.000617, "0.62 µs"),
        (amounts.duration, 0, "0 ms"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_small_amounts_are_not_zero(show: Any, value: float, text: str) -> None:
    assert show(value) == text


def test_a_change_shows_one_number_where_both_look_the_same() -> None:
    assert amounts.change(1.201, 1.202, amounts.milliseconds) == "1.20"
    assert amounts.change(1.2, 1.3, amounts.milliseconds) == "1.20 → 1.30"
    assert amounts.change(None, 1.3, amounts.milliseconds) is None
