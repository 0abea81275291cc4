"""`optc bench` with real processes: every kind of contestant runs, on the same inputs, or says why not."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optc.bench.contestant import parse
from optc.bench.process import Process
from optc.cli import run_command
from optc.errors import UserError

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x) => (float[batch,4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> { y = Mul(x, w) }"""
FACTORY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.arange(1.0, 5.0))

    def forward(self, x, *, more=None):
        print("a model may print")
        return {"y": x * self.w + (0 if more is None else sum(more["parts"]))}

def net():
    return Net(), (torch.ones(3, 4),)

def nested():
    return Net(), (torch.ones(3, 4), {"more": {"parts": [torch.ones(1), torch.ones(1)]}})

def exits():
    import os
    os._exit(3)
"""
QUICK = ["--sessions", "1", "--seconds", "0", "--json"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    ir.save(ir.from_onnx_text(TEXT), path)
    (tmp_path / "nets.py").write_text(FACTORY)
    return path


def _json(capsys: pytest.CaptureFixture[str]) -> dict:
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_a_model_an_artifact_and_a_module_get_the_same_inputs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, factory = tmp_path / "out", f"{tmp_path / 'nets.py'}:net"
    assert run_command(["compile", str(model), "-o", str(folder), "--no-gate"]) == 0
    capsys.readouterr()
    assert run_command(["bench", str(model), str(folder), factory, str(model), *QUICK]) == 0
    found = _json(capsys)
    assert found["reference"] == str(model)
    assert found["inputs"] == {"from": f"the example of {factory}", "arrays": {"x": "float32[3, 4]"}}
    rows = found["contestants"]
    assert [row["name"] for row in rows] == [str(model), str(folder), factory, f"{model} (2)"]
    assert [row["kind"] for row in rows] == ["onnx", "artifact", "eager", "onnx"]
    assert [row["rel_l2"] for row in rows[1:]] == [0, 0, 0]
    assert all(row["ms"] > 0 and row["load_seconds"] > 0 and row["peak_bytes"] > 10**6 for row in rows)
    assert rows[0]["file_bytes"] == model.stat().st_size and rows[2]["file_bytes"] is None
    assert all(row["verdict"] == "too few sessions" for row in rows)


def test_random_inputs_take_the_sizes_that_are_asked_for(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bench", str(model), "--dim", "batch=7", *QUICK]) == 0
    assert _json(capsys)["inputs"] == {"from": "random, seed 0", "arrays": {"x": "float32[7, 4]"}}


def test_tensors_inside_containers_are_named_as_capture_names_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, source = tmp_path / "x.npz", f"{tmp_path / 'nets.py'}:nested"
    one = np.ones(1, np.float32)
    np.savez(file, x=np.ones((2, 4), np.float32), more_parts_0=one, more_parts_1=2 * one)
    assert run_command(["bench", source, "--inputs", str(file), *QUICK]) == 0
    assert set(_json(capsys)["inputs"]["arrays"]) == {"x", "more_parts_0", "more_parts_1"}


def test_external_data_counts_as_file_size(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    ir.save(ir.from_onnx_text(TEXT), path, external_data="big.data", size_threshold_bytes=0)
    assert parse([str(path)])[0].file_bytes == path.stat().st_size + (tmp_path / "big.data").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.onnx"], "gone.onnx"),
        (["nothing"], "package.module:factory"),
        (["inducter:{folder}/nets.py:net"], "did you mean 'inductor'"),
        (["{folder}/nets.py:missing"], "'missing'"),
        (["{folder}"], "manifest.json"),
        (["{folder}/model.onnx", "--dim", "length=3"], "named dimensions: ['batch']"),
        (["{folder}/nets.py:net", "--dim", "batch=3"], "--inputs"),
        (["{folder}/model.onnx", "{folder}/nets.py:net", "--inputs", "{folder}/z.npz"], "'z'"),
        (["{folder}/nets.py:exits"], "exit code 3"),
        (["{folder}/model.onnx", "--threads", "5000"], "1 to 1024"),
        (["{folder}/nets.py:torch"], "is of type module, not a function"),
    ],
)
def test_what_cannot_be_measured_is_a_user_error(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    np.savez(tmp_path / "z.npz", z=np.ones(3))
    assert run_command(["bench", *(text.format(folder=tmp_path) for text in arguments), *QUICK]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "do:" in captured.err and "Traceback" not in captured.err


def test_only_what_fails_on_inputs_is_told_to_take_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, other = tmp_path / "broken.onnx", tmp_path / "other.onnx"
    broken.write_bytes(b"abc")
    ir.save(ir.from_onnx_text(TEXT.replace("batch,4]", "batch,4,1]")), other)
    assert run_command(["bench", str(model), str(broken), *QUICK]) == 2
    assert "--inputs" not in capsys.readouterr().err
    assert run_command(["bench", str(model), str(other), *QUICK]) == 2
    assert "--inputs" in capsys.readouterr().err


def test_a_file_with_a_colon_in_its_name_is_a_file(model: Path, tmp_path: Path) -> None:
    path = model.rename(tmp_path / "a:b.onnx")
    assert parse([str(path)])[0].kind == "onnx"


def test_a_worker_rests_between_two_blocks(model: Path, tmp_path: Path) -> None:
    """Its threads would spin on the cores of the contestant whose turn it is."""
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), np.float32))
    arguments = {"source": str(model), "inputs": str(tmp_path / "x.npz"), "threads": 2}
    with closing(Process("model", "optc.bench.programs:onnx_program", arguments)) as process:
        assert process.open() > 0 and process.block(3, 1) > 0
        pid = process._process.pid
        state = Path(f"/proc/{pid}/stat")
        if not state.exists():
            pytest.skip("no /proc on this system")
        deadline = time.monotonic() + 10
        while (letter := state.read_text().rpartition(")")[2].split()[0]) != "T":
            assert time.monotonic() < deadline, letter
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UserError, match="signal 9"):
            process.block(1, 0)
