"""`benchmarks/budgets.py`: its networks run, and its rows say what was measured."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("budgets")
    for name in ("budgets", "budget_networks"):
        sys.modules.pop(name, None)


def test_every_network_answers_its_inputs(budgets: ModuleType) -> None:
    for family in budgets.FAMILIES.values():
        with torch.inference_mode():
            answers = budgets.made(family, 0)(family.inputs(2, torch.Generator().manual_seed(0)))
        assert len(answers) == 2 and answers.isfinite().all() and not torch.equal(*answers)


def test_a_row_counts_every_product_of_the_network(
    budgets: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "disable", lambda level: None)
    given = ["--families", "mlp", "--seeds", "1", "--samples", "16", "--budgets", "0.1"]
    monkeypatch.setattr(sys, "argv", ["budgets.py", *given])
    budgets.main()
    row = r"mlp +seed 0 +16 samples +0\.\d+ of 0\.1 +(\d) in int8 +(\d) in float\n"
    found = re.search(row, capsys.readouterr().out)
    assert found is not None and int(found[1]) + int(found[2]) == 4


def test_an_error_above_the_budget_is_counted(budgets: ModuleType) -> None:
    rows = [budgets.Row("mlp", 0, 16, budget, 0.03, 4, 0) for budget in (0.02, 0.1)]
    summary = budgets._summary(rows)
    assert [[*column.cells][-1] for column in summary.columns] == ["all", "2", "1", "1.50", "8"]
