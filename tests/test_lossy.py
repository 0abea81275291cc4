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

import optc
from optc import gate, lossy, registry, request
from optc.gate import Entry, GateResult, Judgement
from optc.measure import Ratio
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline, Record

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,4] x) => (float[2,4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> {
    h = Identity(x)  s = Sigmoid(h)  p = Mul(h, s)  y = Mul(p, w) }"""
X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)


@dataclass(frozen=True)
class Coarse(Pass):
    """Scales the weights, which costs accuracy."""

    name: ClassVar[str] = "coarse"
    exact: ClassVar[bool] = False
    by: float = 1.05
    contexts: ClassVar[list[Context]] = []

    def run(self, model: ir.Model, ctx: Context) -> Report:
        self.contexts.append(ctx)
        value = model.graph.initializers["w"]
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(self.by), name="w")  # type: ignore[union-attr]
        return Report(True)


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


@dataclass
class Machine:
    """Planted answers of the gate, and what it was asked."""

    ratio: float = 0.5  # time with a lossy pass over time without it
    against_exact: float = 0.5  # the artifact over the best exact one
    loses: bool = False  # the artifact with the lossy passes to the captured model

    def pays(
        self, before: ir.Model, after: Mapping[str, Callable[[], ir.Model]], *_: Any, **given: Any
    ) -> Any:
        for build in after.values():
            build()
        what = given["what"]
        ratio = self.against_exact if what == "artifact" else self.ratio
        verdict, reason = ("kept", "faster") if ratio < 1 else ("undone", f"slower: {1 / ratio:.2f}x")
        entry = Entry(what, verdict, reason, ratio, ratio * 0.99, ratio * 1.01, 3)
        return Judgement(entry, {"as given": (1.0, ratio)})

    def choose(
        self, plain: ir.Model, legalized: Callable[..., ir.Model], families: Any, *_: Any, **__: Any
    ) -> Any:
        w = legalized({family: names[0] for family, names in families.items()}).graph.initializers["w"]
        exact = w.const_value is not None and float(w.const_value.numpy()[0]) == 1.0
        decisions = {family: names[0] for family, names in families.items()}
        return GateResult(decisions, keep_plain=self.loses and not exact)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    planted = Machine()
    monkeypatch.setattr(gate, "pays", planted.pays)
    monkeypatch.setattr(gate, "choose", planted.choose)
    Coarse.contexts.clear()
    return planted


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> Callable[..., optc.Artifact]:
    """Compiles at level 2 as if the target's pipeline were this one; without passes, at level 1."""

    def compiled(*passes: Pass, **options: Any) -> optc.Artifact:
        chosen = Pipeline((*Pipeline.parse("simplify").passes, *passes, *Pipeline.parse("fuse").passes))
        monkeypatch.setattr(request, "choose_pipeline", lambda *_, **__: chosen)
        given = {"inputs": {"x": X}, "level": 2 if passes else 1, **options}
        return optc.compile(ir.from_onnx_text(TEXT), **given)

    return compiled


def row(artifact: optc.Artifact, name: str = "coarse") -> dict[str, Any]:
    found: list[dict[str, Any]] = [entry for entry in artifact.report["passes"] if entry["name"] == name]
    return found[0]


def scale(artifact: optc.Artifact) -> float:
    return float((artifact(X) / (X / (1 + np.exp(-X))))[0, 0])


def same_program(a: Path, b: Path) -> bool:
    return (a / "model.onnx").read_bytes() == (b / "model.onnx").read_bytes()


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


def test_an_error_above_the_limit_is_not_even_timed(
    machine: Machine, level: Callable[..., optc.Artifact]
) -> None:
    artifact = level(Coarse(1.2))
    assert "its error 0.2 is above the allowed 0.1" in row(artifact)["reverted"]
    assert scale(artifact) == pytest.approx(1, rel=1e-4)
    assert artifact.report["final"]["detail"]["gate"] == []
    assert row(level(Coarse(1.2), max_error=0.3))["reverted"] is None


def test_named_passes_are_timed_only_when_the_gate_is_asked_for(machine: Machine) -> None:
    machine.ratio = 2.0
    options: dict[str, Any] = {"inputs": {"x": X}, "pipeline": Pipeline((Coarse(),))}
    assert row(optc.compile(ir.from_onnx_text(TEXT), **options))["reverted"] is None
    gated = optc.compile(ir.from_onnx_text(TEXT), **options, gate=True)
    assert row(gated)["reverted"] == "slower: 0.50x"


def test_named_passes_may_come_near_the_limit_but_not_above(machine: Machine) -> None:
    options: dict[str, Any] = {"inputs": {"x": X}, "max_error": 0.1}
    near, above = (
        optc.compile(ir.from_onnx_text(TEXT), pipeline=Pipeline((Coarse(by),)), **options)
        for by in (1.095, 1.11)
    )
    assert row(near)["reverted"] is None and "above the allowed" in row(above)["reverted"]


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
