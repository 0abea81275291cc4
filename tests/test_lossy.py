"""Lossy passes under the gate: kept where they pay and stay within the error allowed, undone elsewhere.

The measurements are planted; what follows from them is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from lossy_machine import TEXT, Coarse, Machine, X, compiler, plant, row, same_program, scale

import optc
from optc import gate, lossy, registry
from optc.gate import Entry, Judgement
from optc.measure import Ratio
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline, Record


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return plant(monkeypatch)


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> Callable[..., optc.Artifact]:
    return compiler(monkeypatch)


def test_a_lossy_pass_that_pays_is_kept(machine: Machine, level: Callable[..., optc.Artifact]) -> None:
    artifact = level(Coarse())
    assert scale(artifact) == pytest.approx(1.05, rel=1e-4)
    assert row(artifact)["reverted"] is None and row(artifact)["changed"]
    assert [entry["what"] for entry in artifact.report["final"]["detail"]["gate"]] == ["coarse"]
    assert not any(choice == lossy.UNDONE for choice in artifact.manifest.decisions.values())


def test_one_that_does_not_leaves_exactly_the_exact_program(
    machine: Machine, level: Callable[..., optc.Artifact], tmp_path: Path
) -> None:
    machine.ratio = 1.25
    artifact = level(Coarse(), output=tmp_path / "two")
    assert row(artifact)["reverted"] == "slower: 0.80x" and not row(artifact)["changed"]
    assert (row(artifact)["ms_before"], row(artifact)["ms_after"]) == (1e3, 1250.0)
    level(output=tmp_path / "one")
    assert same_program(tmp_path / "one", tmp_path / "two")


def test_what_was_undone_is_replayed_without_measuring(
    machine: Machine, level: Callable[..., optc.Artifact], tmp_path: Path
) -> None:
    machine.ratio = 1.25
    first = level(Coarse(), output=tmp_path / "first")
    assert first.manifest.decisions["coarse (pass 2)"] == "undone"
    machine.ratio = 0.5  # would be kept if it were asked
    again = level(Coarse(), output=tmp_path / "again", decisions=tmp_path / "first")
    assert same_program(tmp_path / "first", tmp_path / "again")
    assert again.manifest.decisions == first.manifest.decisions
    assert "did not pay" in row(again)["reverted"]


def test_two_lossy_passes_are_judged_one_by_one(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    answers = iter([1.5, 0.5])
    pays = machine.pays

    def one_then_the_other(*args: Any, **given: Any) -> Any:
        machine.ratio = next(answers)
        return pays(*args, **given)

    gate.pays = one_then_the_other
    artifact = level(Coarse(1.02), Coarse(1.03))
    assert scale(artifact) == pytest.approx(1.03, rel=1e-4)
    assert artifact.manifest.decisions["coarse (pass 2)"] == "undone"
    assert "coarse (pass 3)" not in artifact.manifest.decisions
    assert len(Coarse.contexts) == 2  # a lossy pass may take minutes: none runs again to judge another


def test_lossy_passes_share_the_time_there_is_and_keep_their_own_reasons(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    given: list[float] = []
    pays = machine.pays

    def noted(*args: Any, **options: Any) -> Any:
        given.append(options["seconds"])
        machine.ratio = 1.5 if len(given) == 2 else 0.5
        return pays(*args, **options)

    gate.pays = noted
    machine.loses = True
    artifact = level(Coarse(1.02), Coarse(1.03))
    alone = level(Coarse(1.02))
    assert given[0] == given[1] == given[-1] / 2
    first, second = (entry for entry in artifact.report["passes"] if entry["name"] == "coarse")
    assert "loses to the plain export" in first["reverted"] and second["reverted"] == "slower: 0.67x"
    assert "loses to the plain export" in row(alone)["reverted"]


def test_the_exact_program_is_left_when_the_artifact_loses_to_the_plain_export(
    machine: Machine, level: Callable[..., optc.Artifact], tmp_path: Path
) -> None:
    machine.loses = True
    artifact = level(Coarse(), output=tmp_path / "two")
    assert "loses to the plain export" in row(artifact)["reverted"]
    assert row(artifact, "fuse")["changed"] and artifact.manifest.decisions["coarse (pass 2)"] == "undone"
    level(output=tmp_path / "one")
    assert same_program(tmp_path / "one", tmp_path / "two")


def test_a_small_gain_is_held_against_the_best_exact_artifact(
    machine: Machine, level: Callable[..., optc.Artifact], tmp_path: Path
) -> None:
    """Its own choice of lowerings may make the exact program as fast as the lossy one."""
    machine.ratio, machine.against_exact = 0.95, 1.02
    artifact = level(Coarse(), output=tmp_path / "two")
    assert row(artifact)["reverted"] == "against the best exact artifact slower: 0.98x"
    level(output=tmp_path / "one")
    assert same_program(tmp_path / "one", tmp_path / "two")
    machine.ratio = 0.5  # no choice of lowerings makes up for that: it is not measured
    assert row(level(Coarse()))["reverted"] is None
    machine.ratio, machine.against_exact = 0.95, 0.97
    assert row(level(Coarse()))["reverted"] is None


def test_named_passes_are_timed_only_when_the_gate_is_asked_for(machine: Machine) -> None:
    machine.ratio = 2.0
    options: dict[str, Any] = {"inputs": {"x": X}, "pipeline": Pipeline((Coarse(),))}
    assert row(optc.compile(ir.from_onnx_text(TEXT), **options))["reverted"] is None
    gated = optc.compile(ir.from_onnx_text(TEXT), **options, gate=True)
    assert row(gated)["reverted"] == "slower: 0.50x"


def test_passes_calibrate_on_a_part_and_errors_are_taken_on_all(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    data = {"x": np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)}
    artifact = level(Coarse(), calibration=data)
    [ctx] = Coarse.contexts
    assert ctx.calibration is not None and len(ctx.calibration) == 8 and ctx.max_error == 0.1
    assert row(artifact)["error"]["unseen"]["samples"] == 2
    assert "notes" not in artifact.report["final"]["detail"]


def test_the_report_says_what_calibration_would_add(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    [note] = level(Coarse()).report["final"]["detail"]["notes"]
    assert "calibration adds" in note
    assert "notes" not in level().report["final"]["detail"]


@dataclass(frozen=True)
class Refuses(Pass):
    """Finds out half-way that the model is not for it."""

    name: ClassVar[str] = "refuses"
    exact: ClassVar[bool] = False

    def run(self, model: ir.Model, ctx: Context) -> Report:
        Coarse(2.0).run(model, ctx)
        return Report(False)


def test_nothing_of_a_pass_that_refuses_goes_on_unseen(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    assert scale(level(Refuses())) == pytest.approx(1, rel=1e-4)
    options: dict[str, Any] = {"inputs": {"x": X}, "pipeline": Pipeline((Refuses(),)), "gate": False}
    assert scale(optc.compile(ir.from_onnx_text(TEXT), **options)) == pytest.approx(1, rel=1e-4)


def test_ratios_invert_with_their_intervals() -> None:
    from optc.gate.lossy import inverse

    assert inverse(Ratio(2.0, 1.6, 4.0, 3)) == Ratio(0.5, 0.25, 1 / 1.6, 3)
    assert inverse(Ratio(2.0, 0.0, float("inf"), 1)) == Ratio(0.5, 0.0, float("inf"), 1)


def test_every_way_to_lower_what_a_pass_made_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families without another kernel are both tried inlined, not one of them."""
    ways = ["kernel", "inline"]
    found = iter([{}, {"one": ways, "two": ways}])  # the families before the pass, and behind it
    tried: list[str] = []

    def pays(before: ir.Model, after: Mapping[str, Any], *_: Any, what: str, **__: Any) -> Judgement:
        tried.extend(after)
        return Judgement(Entry(what, "kept", "planted"))

    monkeypatch.setattr(gate, "families_of", lambda *_: next(found))
    monkeypatch.setattr(gate, "pays", pays)
    model, ctx = ir.from_onnx_text(TEXT), Context(registry.find_target("cpu"))
    record = Record(Coarse(), Report(True), 0.0, model)
    watcher = lossy.Pays(Pipeline((Coarse(),)), ctx, lambda _: gate.Prepared(lambda: lambda _: None, 0), 1.0)
    watcher.after(0, record, model)
    assert tried == ["", "one=inline", "two=inline"]
