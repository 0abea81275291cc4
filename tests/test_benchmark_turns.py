"""`benchmarks/turns.py`: contestants take turns, ratios are taken within a turn, every case is measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "turns.py"


@pytest.fixture(scope="module")
def turns():
    spec = importlib.util.spec_from_file_location("benchmark_turns", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_contestant_is_measured_on_every_case(turns, tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n] x) => (float[n] y) { y = Abs(x) }'
    )
    for name in ("a", "b"):
        onnx.save(model, tmp_path / f"{name}.onnx")
    contestants = {name: tmp_path / f"{name}.onnx" for name in ("a", "b")}
    cases = [{"x": np.ones(n, np.float32), "unknown": np.ones(1)} for n in (1, 2, 3)]
    times = turns.take(contestants, cases, rounds=2, seconds=0.001)
    assert times.base == "a"
    assert {name: rows.shape for name, rows in times.seconds.items()} == {"a": (2, 3), "b": (2, 3)}
    assert all((rows > 0).all() for rows in times.seconds.values())


def test_speedups_are_those_within_a_turn(turns):
    """The machine was twice as slow in the second turn: that is no difference between the two."""
    times = turns.Times(
        {"plain": np.array([[2.0], [4.0], [2.0]]), "fast": np.array([[1.0], [2.0], [1.6]])}, "plain"
    )
    assert times.speedups("fast")[:, 0].tolist() == [2.0, 2.0, 1.25]
    assert times.cell("fast", 0) == "1600.00 (2.00x, 1.25 to 2.00)"
    assert turns.table("t", times, ["one"], {"error": {"fast": "0.1"}}).row_count == 2
