"""What users get wrong: exit code 2, a message that names the place, no traceback, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import hostile_models
import numpy as np
import onnx_ir as ir
import pytest

from optc.cli import run_command

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x) => (float[batch,4] y) { h = Identity(x)  s = Sigmoid(h)  y = Mul(h, s) }"""
FACTORY = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return {"double": x * 2, "half": x / 2}

def net():
    return Net(), (torch.ones(2, 3),)

def wrong():
    return 3

def broken():
    raise KeyError("weights")

def leaves():
    raise SystemExit(0)

class Leaving(torch.nn.Module):
    def forward(self, x):
        raise SystemExit(0)

def leaving():
    return Leaving(), (torch.ones(2, 3),)

def misnamed():
    return Net(), (torch.ones(2, 3),), ({7: "batch"},)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    ir.save(ir.from_onnx_text(TEXT), path)
    return path


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def _run(folder: Path) -> int:
    arguments = ["--inputs", str(folder / "x.npz"), "-o", str(folder / "y.npz")]
    return run_command(["run", str(folder / "out"), *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "missing.onnx", "-o", "out"], "missing.onnx"),
        (["compile", "{model}"], "'-o'"),
        (["compile", "{model}", "-o", "out", "--pipeline", "simplfy"], "did you mean 'simplify'"),
        (["compile", "{model}", "-o", "out", "--pipeline", "fuse{onli=attention}"], "did you mean 'only'"),
        (
            ["compile", "{model}", "-o", "out", "--pipeline", "fuse{only=atention}"],
            "did you mean 'attention'",
        ),
        (["compile", "{model}", "-o", "out", "--pipeline", "simplify{fold-limit=big}"], "not a whole number"),
        (["compile", "{model}", "-o", "out", "--target", "gpu"], "did you mean 'cpu'"),
        (["compile", "{model}", "-o", "out", "-O", "7"], "-O"),
        (["compile", "{model}", "-o", "out", "-O", "3"], "level 3 needs calibration data"),
        (["compile", "{model}", "-o", "out", "--inputs", "missing.npz"], "missing.npz"),
        (["compile", "{model}", "-o", "out", "--decisions", "missing"], "missing"),
        (["compile", "{model}", "-o", "out", "--metric", "json:loads"], "belong together"),
        (["compile", "{model}", "-o", "out", "--arch", "sm_90"], "no option 'arch'"),
        (["compile", "{model}", "-o", "{model}/deep/out"], "inside a file"),
        (["compile", "{model}", "-o", "{model}"], "a file, not a directory"),
        (["compile", "{model}", "-o", "{folder}"], "not empty"),
        (["compile", "{factory}:nett", "-o", "out"], "did you mean 'net'"),
        (["compile", "{factory}:wrong", "-o", "out"], "wrong"),
        (["compile", "{factory}:broken", "-o", "out"], "KeyError"),
        (["compile", "no_such_package_x:f", "-o", "out"], "no_such_package_x"),
        (["compil", "{model}"], "compile"),
        (["run", "{folder}", "--inputs", "missing.npz", "-o", "y.npz"], "manifest.json"),
        (["inspect", "missing"], "missing"),
        (["inspect", "{folder}"], "it is a directory"),
        (["compile", "{folder}", "-o", "out"], "it is a directory"),
        (["compile", "{model}", "-o", "out", "--inputs", "{model}"], "numpy.savez"),
        (["inspect", "{model}", "--dim", "batch=many"], "batch=8"),
        (["diff", "{model}", "missing.onnx"], "missing.onnx"),
        (["passes", "fues"], "did you mean 'fuse'"),
        (["targets", "cpux"], "did you mean 'cpu'"),
        (["compile", "{model}", "-o", "out", "--pipeline", "simplify{fold-limit=-1}"], "at least 0"),
        (["compile", "{model}", "-o", "out", "--pipeline", "cast{to=fp16, to=bf16}"], "given twice"),
        (["compile", "{model}", "-o", "out", "--seed", "-1"], "--seed"),
        (["compile", "{model}", "-o", "out", "--gate-seconds", "-3"], "gate_seconds=-3"),
        (["compile", "{model}", "-o", "out", "--gate-seconds", "nan"], "gate_seconds=nan"),
        (["compile", "{model}", "-o", "out", "--max-error", "nan"], "max_error=nan"),
        (["compile", "{model}", "-o", "out", "--max-error", "-1"], "max_error=-1"),
        (["compile", "{model}", "-o", "o" * 300], "too long"),
        (["compile", "{model}", "-o", "out", "--dump", "{model}"], "listings"),
        (["compile", "{model}", "-o", "out", "--dump", "{model}/dump"], "listings"),
        (["compile", "{model}", "-o", "out", "--dump", "/proc/listings"], "listings cannot be written there"),
        (["compile", "{model}", "-o", "out", "--dump", "out"], "into the artifact"),
        (["compile", "{model}", "-o", "out", "--dump", "./out/listings"], "into the artifact"),
        (["compile", "{model}", "-o", "out", "--threads", "9" * 20], "1 to 1024"),
        (["compile", "{factory}:leaves", "-o", "out"], "SystemExit"),
        (["compile", "{factory}:leaving", "-o", "out"], "cannot capture Leaving"),
        (["compile", "{factory}:misnamed", "-o", "out"], "axis 7 of an input of shape [2, 3]"),
    ],
)
def test_user_errors(
    arguments: list[str],
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, factory = tmp_path / "foreign", tmp_path / "nets.py"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep me")
    factory.write_text(FACTORY)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name, path in (("model", model), ("folder", folder), ("factory", factory)):
        arguments = [a.replace(f"{{{name}}}", str(path)) for a in arguments]
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err and "pickle" not in captured.err
    assert captured.out == ""
    assert _files(work) == []
    assert (folder / "mine.txt").read_text() == "keep me"


def test_inputs_that_do_not_fit_the_artifact(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run_command(["compile", str(model), "-o", str(out), "--no-gate"])
    for arrays, message in (
        ({"z": np.ones((3, 4), np.float32)}, "'z'"),
        ({"x": np.ones((3, 4), np.int64)}, "int64"),
        ({"x": np.ones((3, 5), np.float32)}, "5"),
        ({"x": np.ones((4,), np.float32)}, "x"),
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        capsys.readouterr()
        assert (
            run_command(["run", str(out), "--inputs", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")])
            == 2
        )
        assert message in capsys.readouterr().err
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("signature", {"inputs": [1, 2]}, "damaged at 'signature'"),
        ("options", {"threads": "many"}, "'many' is no value of the option 'threads'"),
        ("options", {"execution_mode": 7}, "7 is no value of the option 'execution_mode'"),
    ],
    ids=["signature", "threads", "mode"],
)
def test_a_damaged_manifest(
    name: str,
    value: object,
    message: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    run_command(["compile", str(model), "-o", str(out), "--no-gate"])
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, name: value}))
    np.savez(tmp_path / "x.npz", x=np.ones((3, 4), np.float32))
    capsys.readouterr()
    assert _run(tmp_path) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_names_in_messages_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor flood it."""
    ghost = "\x1b[2J" + "g" * 100_000
    broken = hostile_models.model(hostile_models.Node("Add", ["x", ghost], ["y"], name="sum\x07"))
    (tmp_path / "model.onnx").write_bytes(broken.SerializeToString())
    assert run_command(["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "\\x1b[2Jgg" in error and "sum\\x07" in error
    assert "\x1b" not in error and "\x07" not in error
    assert len(error) < 10_000


def test_a_changed_file_is_noticed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run_command(["compile", str(model), "-o", str(out), "--no-gate"])
    with (out / "model.onnx").open("ab") as file:
        file.write(b"\0")
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    capsys.readouterr()
    assert (
        run_command(["run", str(out), "--inputs", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")])
        == 2
    )
    assert "sha256" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_under_temporary_files(
    number: int,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Weights lie in one while a session is opened."""

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("optc.oracle.open_session", full)
    assert run_command(["compile", str(model), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert os.strerror(number) in error and "TMPDIR" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_model_without_outputs_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "silent.onnx"
    ir.save(
        ir.from_onnx_text('<ir_version: 10, opset_import: ["": 20]> g (float x) => () { y = Neg(x) }'), path
    )
    assert run_command(["compile", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "the model has no outputs" in capsys.readouterr().err
    assert run_command(["inspect", str(path)]) == 0


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"source": "m", "target": "cpu", "threads": 1, "passes": 3}']
)
def test_a_damaged_report_is_told_so(
    model: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_command(["compile", str(model), "-o", str(out), "--no-gate"]) == 0
    (out / "report.json").write_text(content)
    capsys.readouterr()
    assert run_command(["inspect", str(out)]) == 2
    assert "not a report of optc" in capsys.readouterr().err
