"""Pipeline text is the contract of --pipeline: it round-trips, and every mistake in it is named."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir
import pytest

from optc import pipeline_text, registry
from optc.errors import UserError
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline


@dataclass(frozen=True)
class Demo(Pass):
    """A pass with an option of every type."""

    name: ClassVar[str] = "demo"
    count: int = 1
    ratio: float = 0.5
    bias_correct: bool = False
    scheme: Literal["auto", "static"] = "auto"
    exclude: str = ""
    alpha: float | str = "auto"
    limit: int | None = None

    def run(self, model: ir.Model, ctx: Context) -> Report:
        return Report(False)


@pytest.fixture(autouse=True)
def _only_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> type[Pass]:
        if name != "demo":
            raise UserError(f"there is no pass called {name!r}", hint=registry.did_you_mean(name, ["demo"]))
        return Demo

    monkeypatch.setattr(registry, "find_pass", find)


@pytest.mark.parametrize(
    "step",
    [
        Demo(),
        Demo(count=7, ratio=1e-3),
        Demo(bias_correct=True, scheme="static"),
        Demo(exclude='layers, {0}="x" \\ y'),
        Demo(exclude=" "),
        Demo(alpha=0.7),
        Demo(alpha="none", limit=3),
    ],
)
def test_round_trip(step: Demo) -> None:
    text = pipeline_text.write(step)
    assert list(pipeline_text.parse(text)) == [step]


def test_options_use_hyphens() -> None:
    assert list(pipeline_text.parse("demo{bias-correct=true}")) == [Demo(bias_correct=True)]
    assert pipeline_text.write(Demo(bias_correct=True)) == "demo{bias-correct=true}"


def test_pipelines_of_several_passes_round_trip() -> None:
    text = 'demo, demo{count=2}, demo{exclude="a, b"}'
    assert str(Pipeline.parse(text)) == text
    assert Pipeline.parse("").passes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("demo{cuont=3}", "did you mean 'count'"),
        ("demo{scheme=statik}", "did you mean 'static'"),
        ("demo{count=three}", "not a whole number"),
        ("demo{count=3.5}", "not a whole number"),
        ("demo{ratio=big}", "not a number"),
        ("demo{bias-correct=yes}", "not true or false"),
        ("demo{count=3", "expected ','"),
        ("demo{count}", "expected '='"),
        ("demo{=3}", "expected the name of an option"),
        ("demo demo", "expected ','"),
        ("demo,", "expected the name of a pass"),
        (",demo", "expected the name of a pass"),
        ('demo{exclude="open}', "quote is not closed"),
        ("demo}", "expected ','"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        list(pipeline_text.parse(text))
    assert message in str(error.value)


def test_options_lists_only_what_differs() -> None:
    assert Demo().options() == {}
    assert Demo(count=2).options() == {"count": 2}
    assert {f.name for f in dataclasses.fields(Demo)} >= {"count", "limit"}
