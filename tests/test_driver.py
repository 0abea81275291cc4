"""The driver keeps its promises: a wrong rewrite is undone, decisions are replayed, metrics are held."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
import torch

import optc
from optc import gate, registry
from optc.errors import UserError, VerifyError
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x) => (float[batch,4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> {
    h = Identity(x)  s = Sigmoid(h)  p = Mul(h, s)  y = Mul(p, w) }"""


@dataclass(frozen=True)
class Wrong(Pass):
    """Doubles the weights: an exact pass with a defect."""

    name: ClassVar[str] = "wrong"

    def run(self, model: ir.Model, ctx: Context) -> Report:
        value = model.graph.initializers["w"]
        value.const_value = ir.tensor(value.const_value.numpy() * 2, name="w")  # type: ignore[union-attr]
        return Report(True, {"doubled": 1})


@dataclass(frozen=True)
class Breaks(Pass):
    """Leaves a node that reads what nobody defines."""

    name: ClassVar[str] = "breaks"

    def run(self, model: ir.Model, ctx: Context) -> Report:
        next(iter(model.graph)).replace_input_with(0, ir.Value(name="nowhere"))
        return Report(True)


def _compile(pipeline: tuple[Pass, ...] | None = None, **options: object) -> optc.Artifact:
    made = None if pipeline is None else Pipeline(pipeline)
    return optc.compile(ir.from_onnx_text(TEXT), pipeline=made, gate=False, **options)


def _expected(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x)) * np.array([1, 2, 3, 4], np.float32)


X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def test_an_exact_pass_that_changes_results_is_undone_and_the_report_says_so() -> None:
    artifact = _compile((Wrong(),))
    np.testing.assert_allclose(artifact(X), _expected(X), rtol=1e-5)
    [entry, _] = artifact.report["passes"]
    assert entry["changed"] is False
    assert "changed the results" in entry["reverted"]
    assert artifact.report["final"]["error"]["rel_l2"] < 1e-6
    assert entry["matched"] == {"doubled": 1}
    assert "doubled" not in artifact.report["final"]["matched"]  # the whole counts what is in the artifact


def test_a_pass_that_breaks_the_ir_is_an_internal_error() -> None:
    with pytest.raises(VerifyError, match="I1.*breaks|breaks.*I1"):
        _compile((Breaks(),))


def test_the_source_is_not_changed() -> None:
    source = ir.from_onnx_text(TEXT)
    before = [node.op_type for node in source.graph]
    optc.compile(source, gate=False)
    assert [node.op_type for node in source.graph] == before


def test_level_zero_only_legalizes() -> None:
    artifact = _compile(level=0)
    assert [entry["name"] for entry in artifact.report["passes"]] == ["legalize"]
    np.testing.assert_allclose(artifact(X), _expected(X), rtol=1e-5)


def test_decisions_of_an_earlier_artifact_are_replayed(tmp_path: Path) -> None:
    def keep_nothing(*args: object, **kwargs: object) -> gate.GateResult:
        return gate.GateResult({"silu": gate.INLINE})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "choose", keep_nothing)
        first = optc.compile(ir.from_onnx_text(TEXT), gate=True, output=tmp_path / "first")
    assert first.manifest.decisions == {"silu": "inline"}
    again = optc.compile(ir.from_onnx_text(TEXT), decisions=tmp_path / "first", output=tmp_path / "again")
    assert (tmp_path / "first" / "model.onnx").read_bytes() == (
        tmp_path / "again" / "model.onnx"
    ).read_bytes()
    assert {"Sigmoid"} <= {node.op_type for node in again.model.graph}
    fused = optc.compile(ir.from_onnx_text(TEXT), gate=False)
    assert "QuickGelu" in {node.op_type for node in fused.model.graph}


def test_when_nothing_beats_the_captured_model_it_is_kept(tmp_path: Path) -> None:
    def lost(*args: object, **kwargs: object) -> gate.GateResult:
        return gate.GateResult({"silu": gate.INLINE}, keep_plain=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "choose", lost)
        artifact = optc.compile(ir.from_onnx_text(TEXT), gate=True, output=tmp_path / "first")
    assert "Identity" in {node.op_type for node in artifact.model.graph}
    assert all("nothing beat it" in entry["reverted"] for entry in artifact.report["passes"][:2])
    again = optc.compile(ir.from_onnx_text(TEXT), decisions=tmp_path / "first")
    assert "Identity" in {node.op_type for node in again.model.graph}
    assert again.report["final"]["reverted"] == ["simplify", "fuse"]
    np.testing.assert_allclose(artifact(X), _expected(X), rtol=1e-5)


@pytest.mark.slow
def test_the_gate_measures_a_real_model(tmp_path: Path) -> None:
    artifact = optc.compile(ir.from_onnx_text(TEXT), gate=True, gate_seconds=1, output=tmp_path / "out")
    final = artifact.report["final"]["detail"]
    assert final["gate"]
    assert set(artifact.manifest.decisions) <= {
        "artifact",
        *registry.find_target("cpu").families,
    }
    np.testing.assert_allclose(optc.load(tmp_path / "out")(X), _expected(X), rtol=1e-5)


def test_a_metric_is_reported_and_held() -> None:
    def negative_error(run: object) -> float:
        return -float(np.abs(run({"x": X})["y"] - _expected(X)).max())  # type: ignore[operator]

    artifact = _compile(metric=negative_error, max_drop=1e-3)
    assert set(artifact.report["final"]["detail"]["metric"]) == {"before", "after"}
    calls = iter([1.0, 0.0])
    with pytest.raises(UserError, match="the metric drops from 1 to 0"):
        _compile(metric=lambda run: next(calls), max_drop=0.5)
    with pytest.raises(UserError, match="belong together"):
        _compile(max_drop=0.5)


def test_a_module_keeps_its_output_structure() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"double": x * 2, "parts": (x + 1, x - 1)}

    x = torch.ones(2, 3)
    result = optc.compile(Net(), (x,), gate=False)(x)
    assert torch.equal(result["double"], x * 2)
    assert isinstance(result["parts"], tuple) and torch.equal(result["parts"][1], x - 1)
