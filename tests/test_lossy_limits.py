"""Lossy passes and what is allowed: an error, a drop of the metric, and what earlier passes left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from lossy_machine import TEXT, Coarse, Machine, X, compiler, plant, row, scale

import optc
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return plant(monkeypatch)


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> Callable[..., optc.Artifact]:
    return compiler(monkeypatch)


@dataclass(frozen=True)
class Bold(Pass):
    """Makes several times the error that it is allowed."""

    name: ClassVar[str] = "bold"
    exact: ClassVar[bool] = False
    chooses: ClassVar[bool] = True
    times: float = 3.0

    def run(self, model: ir.Model, ctx: Context) -> Report:
        assert ctx.max_error is not None
        Coarse(1 + self.times * ctx.max_error).run(model, ctx)
        return Report(True)


@dataclass(frozen=True)
class Drifts(Pass):
    """Claims to be exact and moves the results by 1%."""

    name: ClassVar[str] = "drifts"

    def run(self, model: ir.Model, ctx: Context) -> Report:
        Coarse(1.01).run(model, ctx)
        return Report(True)


def test_an_error_above_the_limit_is_not_even_timed(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    artifact = level(Coarse(1.2))
    assert "its error 0.2 is above the allowed 0.1" in row(artifact)["reverted"]
    assert scale(artifact) == pytest.approx(1, rel=1e-4)
    assert artifact.report["final"]["detail"]["gate"] == []
    assert row(level(Coarse(1.2), max_error=0.3))["reverted"] is None


def test_named_passes_may_come_near_the_limit_but_not_above(machine: Machine) -> None:
    options: dict[str, Any] = {"inputs": {"x": X}, "max_error": 0.1}
    near, above = (
        optc.compile(ir.from_onnx_text(TEXT), pipeline=Pipeline((Coarse(by),)), **options)
        for by in (1.095, 1.11)
    )
    assert row(near)["reverted"] is None and "above the allowed" in row(above)["reverted"]


def test_a_lossy_pass_that_hurts_the_metric_is_undone(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    def closeness(run: Callable[..., Any]) -> float:
        return -abs(float(run({"x": X})["y"][0, 0] / (X / (1 + np.exp(-X)))[0, 0]) - 1)

    artifact = level(Coarse(1.2), metric=closeness, max_drop=0.1)
    assert "the metric drops from" in row(artifact)["reverted"]
    assert artifact.report["final"]["detail"]["metric"]["after"] == pytest.approx(0, abs=1e-4)
    assert row(level(Coarse(1.2), metric=closeness, max_drop=0.3))["reverted"] is None  # no limit of 0.1


def test_exact_passes_behind_an_undone_one_are_held_to_float_tolerance(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    machine.ratio = 2.0
    assert "changed the results" in row(level(Coarse(), Drifts()), "drifts")["reverted"]
    machine.ratio = 0.5
    assert row(level(Coarse(1.06), Drifts()), "drifts")["reverted"] is None


def test_a_pass_that_chooses_is_run_again_with_less_when_it_went_too_far() -> None:
    Coarse.contexts.clear()
    given = {"inputs": {"x": X}, "max_error": 0.1, "gate": False}
    artifact = optc.compile(ir.from_onnx_text(TEXT), pipeline=Pipeline((Bold(), Coarse(1.0))), **given)
    told = [ctx.max_error for ctx in Coarse.contexts]
    assert [entry["name"] for entry in artifact.report["passes"]] == ["bold", "coarse", "legalize"]
    entry = row(artifact, "bold")
    rest = (0.1**2 - entry["error"]["rel_l2"] ** 2) ** 0.5
    assert told == pytest.approx([0.1, 0.1 * 0.85 / 3, rest])  # the pass behind it is told what is left
    assert entry["changed"] and entry["error"]["rel_l2"] == pytest.approx(0.085, rel=1e-3)
    assert entry["detail"]["earlier"]["undone"].startswith("its error 0.3 is above the allowed 0.1")
    assert entry["detail"]["earlier"]["then allowed"] == pytest.approx(0.1 * 0.85 / 3)
    assert scale(artifact) == pytest.approx(1.085, rel=1e-3)


def test_one_that_does_not_listen_is_undone_in_the_end() -> None:
    @dataclass(frozen=True)
    class Deaf(Bold):
        name: ClassVar[str] = "deaf"

        def run(self, model: ir.Model, ctx: Context) -> Report:
            return Coarse(1.5).run(model, ctx)

    Coarse.contexts.clear()
    given = {"inputs": {"x": X}, "max_error": 0.1, "gate": False}
    artifact = optc.compile(ir.from_onnx_text(TEXT), pipeline=Pipeline((Deaf(),)), **given)
    assert len(Coarse.contexts) == 4 and row(artifact, "deaf")["reverted"]
    assert scale(artifact) == pytest.approx(1.0, rel=1e-4)
