"""A small model, a pass that costs accuracy, and a gate whose answers are planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import optc
from optc import gate, request
from optc.gate import Entry, GateResult, Judgement
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline

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


def plant(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts planted answers where the gate would measure."""
    planted = Machine()
    monkeypatch.setattr(gate, "pays", planted.pays)
    monkeypatch.setattr(gate, "choose", planted.choose)
    Coarse.contexts.clear()
    return planted


def compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[..., optc.Artifact]:
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
