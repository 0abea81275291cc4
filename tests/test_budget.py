"""Lossy passes of one pipeline share what the user allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Pass, Report
from optc.pipeline import Pipeline, Record

ASKED: list[float | None] = []


@dataclass(frozen=True)
class Loses(Pass):
    """Notes what it is allowed."""

    name: ClassVar[str] = "loses"
    exact: ClassVar[bool] = False

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Does nothing, and says that it changed something."""
        ASKED.append(ctx.max_error)
        return Report(True)


@dataclass
class Found:
    """Notes an error that was planted, in the order of the passes; what is above ``undo`` is taken back."""

    errors: list[dict[str, object]]
    undo: float = 1.0
    records: list[Record] = field(default_factory=list)

    def start(self, model: ir.Model) -> None:
        """Nothing to do."""

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Undoes what is too much."""
        record.findings["error"] = error = self.errors[index]
        return "too much" if float(error.get("rel_l2", 0.0)) > self.undo else None  # type: ignore[arg-type]


def asked(
    errors: list[dict[str, object]], allowed: float | None = 0.1, undo: float = 1.0
) -> list[float | None]:
    ASKED.clear()
    model = ir.Model(ir.Graph([], [], nodes=[], name="g", opset_imports={"": 21}), ir_version=10)
    ctx = Context(target=registry.find_target("cpu"), max_error=allowed)
    Pipeline(tuple(Loses() for _ in errors)).run(model, ctx, [Found(errors, undo)])
    return list(ASKED)


def test_a_pass_gets_what_those_before_it_left() -> None:
    assert asked([{"rel_l2": 0.06}, {"rel_l2": 0.08}, {}]) == pytest.approx([0.1, 0.08, 0.06])


def test_the_error_on_unseen_data_counts_where_it_is_larger() -> None:
    errors: list[dict[str, object]] = [{"rel_l2": 0.01, "unseen": {"rel_l2": 0.05, "bound": 0.06}}, {}]
    assert asked(errors) == pytest.approx([0.1, 0.08])


def test_a_pass_that_was_undone_has_spent_nothing() -> None:
    assert asked([{"rel_l2": 0.06}, {"rel_l2": 0.0}], undo=0.05) == [0.1, 0.1]


def test_without_a_limit_there_is_nothing_to_share() -> None:
    assert asked([{"rel_l2": 0.06}, {"rel_l2": 0.0}], allowed=None) == [None, None]


def test_an_error_that_could_not_be_taken_changes_nothing() -> None:
    assert asked([{"rel_l2": 0.06}, {"skipped": "it fails"}, {}]) == pytest.approx([0.1, 0.08, 0.08])
