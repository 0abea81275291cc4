"""`benchmarks/levels.py`: a row says what both levels bought, and what `-O2` kept to."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("levels")
    for name in ("levels", "level_networks"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_row_has_both_ratios_and_the_error_on_other_samples(
    levels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "disable", lambda level: None)
    given = ["--kinds", "mlp", "--samples", "4", "--gate-seconds", "1", "--sessions", "1"]
    monkeypatch.setattr(sys, "argv", ["levels.py", *given])
    levels.main()
    ratio = r"\d\.\d+x \(\d\.\d+ to \S+\)"
    assert re.search(rf"mlp  {ratio}  {ratio}  \S.*  (\d|undone)  0\.0\d+  0\.1\n", capsys.readouterr().out)


def test_a_pass_that_was_undone_has_no_sites(levels: ModuleType) -> None:
    row = {"name": "quantize", "matched": {"int8 site": 2, "weight in 4 bits": 1, "table": 5}}
    assert levels._sites({"passes": [row | {"reverted": None}]}) == "3"
    assert levels._sites({"passes": [row | {"reverted": "slower"}]}) == "undone"
