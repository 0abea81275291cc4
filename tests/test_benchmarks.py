"""`benchmarks/cpu.py`: what is missing is said, what is measured is kept, and losses are in the table."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }"""


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    names = ("cpu", "int8", "peers", "table", "zoo")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("cpu")
    for name in names:
        sys.modules.pop(name, None)


def _session(model: str, batch: int, **ms: float) -> dict:
    names = {"ort": "ONNX Runtime", "ours": "optc -O1"}
    rows = {
        names[key]: {
            "ms": value,
            "speedup": ms["ort"] / value,
            "first_answer_seconds": 0.5,
            "peak_bytes": 2e8,
            "rel_l2": 1e-6,
        }
        for key, value in ms.items()
    }
    return {"model": model, "batch": batch, "threads": 2, "rows": rows}


def test_the_table_shows_spread_and_losses_and_what_is_missing(cpu: ModuleType) -> None:
    sessions = [_session("minilm", 1, ort=10.0 + i, ours=12.0) for i in range(3)]
    sessions.append(_session("bert", 8, ort=100.0, ours=80.0))
    names = [contestant.name for contestant in cpu.peers.CONTESTANTS]
    absent = {("minilm", 1, "OpenVINO"): "not installed: openvino"}
    text = cpu.markdown(sessions, cpu.zoo.MODELS, names, absent)
    header, _, minilm, bert, *notes = text.splitlines()
    columns = [cell.strip() for cell in header.split("|")]
    cells = dict(zip(columns, (cell.strip() for cell in minilm.split("|")), strict=True))
    assert cells["ONNX Runtime"] == "**11.0** (10.0-12.0)" and cells["optc -O1"] == "12.0 (12.0-12.0)"
    assert cells["OpenVINO"] != cells["onnxsim"]
    assert "**80.0**" in bert and "100" in bert
    assert any("not installed: openvino" in note for note in notes)
    assert any("not measured" in note for note in notes)
    shown = cpu.details(sessions, cpu.zoo.MODELS, names)
    assert "0.92x (0.83 to 1.00)" in shown and "1.25x" in shown and "1.0e-06" in shown


def test_a_peer_that_is_not_installed_is_left_out_with_advice(
    cpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    peers = {contestant.name: contestant for contestant in cpu.peers.CONTESTANTS}
    task = cpu.Task("resnet", cpu.zoo.MODELS["resnet"], 1, tmp_path / "resnet-1")
    assert "pip install -r benchmarks/requirements.txt" in peers["OpenVINO"].absent(task)
    cpu.build(task, peers["OpenVINO"])
    assert not task.folder.exists()
    assert peers["optc -O1"].absent(task) is None


def test_sessions_are_added_until_there_are_enough(cpu: ModuleType, tmp_path: Path) -> None:
    task = cpu.Task("minilm", cpu.zoo.MODELS["minilm"], 1, tmp_path / "minilm-1")
    task.folder.mkdir()
    ir.save(ir.from_onnx_text(TEXT), task.exported)
    np.savez(task.inputs, x=np.ones((2, 4), np.float32))
    (reference,) = (c for c in cpu.peers.CONTESTANTS if c.name == cpu.REFERENCE)
    cpu._note(task, reference).write_text(json.dumps({"source": str(task.exported)}))
    arguments = argparse.Namespace(keep=tmp_path, sessions=1, seconds=0.0, threads=1)
    cpu.measure(task, [reference], arguments)
    cpu.measure(task, [reference], arguments)
    (kept,) = cpu._results(tmp_path)
    assert kept["rows"]["ONNX Runtime"]["ms"] > 0 and kept["rows"]["ONNX Runtime"]["speedup"] == 1.0


@pytest.mark.slow
def test_a_build_that_fails_is_a_reason_in_the_table(
    cpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = cpu.Task("minilm", cpu.zoo.MODELS["minilm"], 1, tmp_path / "minilm-1")
    (onnxsim,) = (c for c in cpu.peers.CONTESTANTS if c.name == "onnxsim")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    cpu.build(task, onnxsim)  # there is no export to read
    arguments = argparse.Namespace(
        models=["minilm"], batch=[1], keep=tmp_path, zoo=cpu.zoo.MODELS, known=cpu.peers.CONTESTANTS
    )
    reasons = cpu._absent(arguments)
    assert reasons["minilm", 1, "onnxsim"].startswith("failed: ")
