"""The curve of error against latency: points are what compiling each setting gives, in bounded time."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from rich.console import Console

import optc
from optc import curve, ledger, removal
from optc.cli import run_command
from optc.errors import UserError
from optc.html import page
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline

TERMS = 8


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """More only narrow the intervals."""
    monkeypatch.setattr(curve, "_SESSIONS", 1)


TEXT = f"""<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x) => (float[batch,4] y)
<{", ".join(f"float[4] w{i} = {{{i}.5, 1.0, 2.0, 3.0}}" for i in range(TERMS))}> {{
h0 = Identity(x) {" ".join(f"h{i + 1} = Mul(h{i}, w{i})" for i in range(TERMS))} y = Identity(h{TERMS}) }}"""


@dataclass(frozen=True)
class Drop(Pass):
    """Leaves out the last of the products."""

    name: ClassVar[str] = "drop"
    exact: ClassVar[bool] = False

    count: int = 2

    def scaled(self, strength: float) -> Drop:
        return replace(self, count=round(strength * self.count))

    def run(self, model: ir.Model, ctx: Context) -> Report:
        if self.count > 4:
            raise UserError("that is too many")
        values = {value.name: value for node in model.graph for value in node.outputs}
        values["y"].producer().replace_input_with(0, values[f"h{TERMS - self.count}"])
        removal.remove_unused(model)
        return Report(self.count > 0, {"dropped": self.count}, detail={"count": self.count})


def compiled(step: Pass, **options: Any) -> optc.Artifact:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    given = {"gate": False, "inputs": {"x": x}, **options}
    return optc.compile(ir.from_onnx_text(TEXT), pipeline=Pipeline((step,)), **given)


def test_points_are_what_compiling_each_setting_gives() -> None:
    artifact = compiled(Drop(2), curve=True, curve_seconds=60, max_error=7.0)
    [drawn] = artifact.report["curves"]
    points = drawn["points"]
    assert [(point["setting"], point["strength"]) for point in points] == [
        ("count=0", 0), ("count=1", 0.5), ("count=2", 1), ("count=3", 1.5),
    ]  # fmt: skip
    for point in points:
        alone = compiled(Drop(point["detail"]["count"])).report["final"]
        assert point["error"]["rel_l2"] == pytest.approx(alone["error"]["rel_l2"])
        assert set(point["latency"]) == {"batch=1", "batch=8"}
        assert all(found["ms"] > 0 for found in point["latency"].values())
    assert points[0]["error"]["rel_l2"] == 0 and not points[0]["changed"]
    assert points[0]["operations"] > points[2]["operations"]
    assert drawn["allowed"] == {"max_error": 7.0} and drawn["pass"] == "drop (pass 1)"
    json.dumps(artifact.report)


def test_the_artifact_is_the_same_with_and_without(tmp_path: Path) -> None:
    for name, asked in (("with", True), ("without", False)):
        artifact = compiled(Drop(), curve=asked, curve_seconds=0.1)
        artifact.save(tmp_path / name)
        assert ("curves" in artifact.report) is asked
    for file in ("model.onnx", "manifest.json"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()


def test_a_pass_that_was_undone_has_a_curve_too() -> None:
    artifact = compiled(Drop(2), curve=True, curve_seconds=0.0, max_error=1e-3)
    assert artifact.report["passes"][0]["reverted"]
    [drawn] = artifact.report["curves"]
    assert [point["strength"] for point in drawn["points"]] == [0, 1]


def test_out_of_time_two_points_are_left_and_the_others_are_named() -> None:
    [drawn] = compiled(Drop(2), curve=True, curve_seconds=0).report["curves"]
    assert [point["strength"] for point in drawn["points"]] == [0, 1]
    assert {each["reason"] for each in drawn["left_out"]} == {"the time for the curve was spent"}
    assert all(point["latency"] for point in drawn["points"])


def test_settings_that_cannot_be_are_left_out_with_their_reason() -> None:
    [drawn] = compiled(Drop(4), curve=True, curve_seconds=60).report["curves"]
    assert drawn["points"][-1]["setting"] == "count=4"
    reasons = {each["setting"]: each["reason"] for each in drawn["left_out"]}
    assert reasons == {"count=6": "that is too many", "count=5": "that is too many"}


def test_the_metric_of_every_point_is_taken() -> None:
    x = np.ones((2, 4), np.float32)

    def metric(run: Any) -> float:
        return float(run({"x": x})["y"][0, 0])

    artifact = compiled(Drop(2), curve=True, curve_seconds=60, metric=metric, max_drop=1e9)
    values = [point["metric"] for point in artifact.report["curves"][0]["points"]]
    full = [float(np.prod([i + 0.5 for i in range(TERMS - count)])) for count in range(4)]
    assert values == pytest.approx(full, rel=1e-4)
    assert artifact.report["curves"][0]["allowed"]["min_metric"] == pytest.approx(full[0] - 1e9, rel=1e-4)


def test_people_see_it_on_the_page_and_in_the_terminal() -> None:
    artifact = compiled(Drop(2), curve=True, curve_seconds=60, max_error=7.0)
    text = page(artifact.report)
    assert text.count('class="line"') == 2  # one plot for each shape
    assert "count=2</code> (as asked for)" in text and ">allowed<" in text
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(ledger.render(artifact.report))
    shown = console.export_text()
    assert "curve of drop" in shown and all(f"count={count}" in shown for count in range(4))


@pytest.mark.parametrize("pipeline", ["simplify, fuse", "", "simplify, skip-layers{count=0}"])
def test_without_a_strength_there_is_no_curve(
    pipeline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ir.save(ir.from_onnx_text(TEXT), tmp_path / "m.onnx")
    arguments = ["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out"), "--curve"]
    assert run_command([*arguments, "--pipeline", pipeline]) == 2
    message = capsys.readouterr().err
    assert "no pass in the pipeline has a strength" in message and "merge-tokens" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "strength", "expected"),
    [
        ("merge-tokens", 0.5, "merge-tokens{r=4}"),
        ("merge-tokens{r=16}", 1.25, "merge-tokens{r=20}"),
        ("merge-tokens{keep=0.8}", 0.5, "merge-tokens{keep=0.9}"),
        ("merge-tokens{method=pyramid}", 0, "merge-tokens{method=pyramid, keep=1.0}"),
        ('merge-tokens{schedule="8,4,0"}', 0.25, 'merge-tokens{schedule="2,1,0"}'),
        ("skip-layers{count=2}", 1.5, "skip-layers{count=3}"),
        ("skip-layers{ratio=0.2}", 0.5, "skip-layers{ratio=0.1}"),
        ("skip-layers{speedup=1.4}", 0, "skip-layers{speedup=1.0}"),
        ("share-attention{threshold=0.8}", 0.5, "share-attention{threshold=0.9}"),
        ("share-attention", 0, "share-attention{count=0}"),
    ],
    ids=str,
)
def test_strengths_of_passes(text: str, strength: float, expected: str) -> None:
    [step] = Pipeline.parse(text).passes
    [wanted] = Pipeline.parse(expected).passes
    assert step.scaled(strength) == wanted
