"""The command line is a contract: exit codes, messages on stderr, JSON on stdout, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

import optc
from optc.cli import main, run_command

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x) => (float[batch,4] y) { h = Identity(x)  s = Sigmoid(h)  y = Mul(h, s) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    ir.save(ir.from_onnx_text(TEXT), path)
    return path


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_compile_and_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, x = tmp_path / "out", tmp_path / "x.npz"
    assert run_command(["compile", str(model), "-o", str(out), "--no-gate"]) == 0
    assert "simplify" in capsys.readouterr().out
    assert {"manifest.json", "model.onnx", "report.json"} <= {p.name for p in out.iterdir()}
    np.savez(x, x=np.ones((3, 4), np.float32))
    assert run_command(["run", str(out), "--inputs", str(x), "-o", str(tmp_path / "y.npz")]) == 0
    with np.load(tmp_path / "y.npz") as results:
        np.testing.assert_allclose(results["y"], np.full((3, 4), 1 / (1 + np.exp(-1))), rtol=1e-6)


def test_json_is_one_object_on_stdout(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [
        ["compile", str(model), "-o", str(tmp_path / "out"), "--no-gate"],
        ["inspect", str(model)],
        ["inspect", str(tmp_path / "out")],
        ["diff", str(model), str(tmp_path / "out")],
        ["passes"],
        ["passes", "fuse"],
        ["targets"],
        ["targets", "cpu"],
    ]
    for command in commands:
        assert run_command([*command, "--json"]) == 0, command
        captured = capsys.readouterr()
        json.loads(captured.out)
        assert captured.err == ""


def test_every_option_of_a_pass_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["passes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    options = [(entry["name"], option) for entry in listed for option in entry["options"]]
    assert len(options) > 30
    assert [f"{name}{{{option['name']}}}" for name, option in options if not option["meaning"]] == []
    assert run_command(["passes", "cast"]) == 0
    shown = capsys.readouterr().out
    assert run_command(["passes"]) == 0
    assert "changes results" in capsys.readouterr().out
    assert "fp16, bf16" in shown and "Literal" not in shown and "``" not in shown


def test_an_artifact_is_a_source(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert run_command(["compile", str(model), "-o", str(out), "--no-gate"]) == 0
    assert run_command(["compile", str(out), "-o", str(again), "--no-gate"]) == 0
    assert run_command(["compile", str(again), "-o", str(again), "--no-gate"]) == 0  # into itself, too
    assert run_command(["diff", str(model), str(again)]) == 0
    with (out / "model.onnx").open("ab") as file:
        file.write(b"more")
    capsys.readouterr()
    assert run_command(["compile", str(out), "-o", str(tmp_path / "third")]) == 2
    assert "is not the one that was compiled" in capsys.readouterr().err
    (out / "manifest.json").unlink()
    assert run_command(["compile", str(out), "-o", str(tmp_path / "third")]) == 2
    assert "without a manifest" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_an_artifact_that_is_compiled_again_is_called_as_before(tmp_path: Path) -> None:
    class Named(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"doubled": x + x, "gone": None}  # type: ignore[dict-item]

    x = torch.ones(2, 3)
    optc.compile(Named(), (x,), gate=False, output=tmp_path / "out")
    answer = optc.compile(tmp_path / "out", gate=False)(x)
    assert answer["gone"] is None
    torch.testing.assert_close(answer["doubled"], x + x)


def test_an_interrupt_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optc.catalog.targets", interrupted)
    assert run_command(["targets"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err


def test_told_to_terminate_it_ends_as_after_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so cleans up, which the default of the system does not."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("optc.catalog.targets", lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            main(["targets"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "optc", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Usage: optc" in done.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_full_disk_behind_stdout(options: list[str]) -> None:
    """`optc passes > full`: a message, not a traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "optc", "passes", *options], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("optc: error: the output cannot be written: No space left")
    assert "Traceback" not in done.stderr


def test_the_report_follows_its_schema(model: Path, tmp_path: Path) -> None:
    run_command(["compile", str(model), "-o", str(tmp_path / "out"), "--no-gate"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report) >= {"source", "target", "inputs", "threads", "passes", "final"}
    assert [entry["name"] for entry in report["passes"]] == ["simplify", "fuse", "legalize"]
    keys = {"name", "options", "changed", "matched", "skipped", "error", "ms_before", "ms_after"}
    keys |= {"bytes_before", "bytes_after", "reverted", "detail"}
    assert all(set(entry) == keys for entry in report["passes"])
    assert report["passes"][0]["error"]["rel_l2"] == 0
    assert set(report["final"]) == keys - {"name", "options", "skipped"}


def test_artifacts_are_reproducible(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run_command(["compile", str(model), "-o", str(tmp_path / name), "--no-gate"]) == 0
    for file in ("model.onnx", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_dump_writes_a_listing_per_pass(model: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    run_command(["compile", str(model), "-o", str(tmp_path / "o"), "--no-gate", "--dump", str(dump)])
    assert _files(dump) == ["00-captured.txt", "01-simplify.txt", "02-fuse.txt", "03-legalize.txt"]


def test_an_internal_error_says_how_to_report_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("optc.driver.compile", broken)
    assert run_command(["compile", str(model), "-o", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "planted" in captured.err and "report" in captured.err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"optc {version('optc')}\n"


@pytest.mark.parametrize("arguments", [["diff"], ["targets", "--all"]], ids=["argument", "option"])
def test_a_misused_command_is_json_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*arguments, "--json"]) == 2
    captured = capsys.readouterr()
    message = json.loads(captured.out)["error"]["message"]
    assert message in captured.err and "Usage:" in captured.err


def test_numbers_that_are_not_finite_are_null_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("1.0", "2.0"):
        text = f'<ir_version: 10, opset_import: ["": 20]> g (float x) => (int64 y) <float w = {{{number}}}>'
        path = tmp_path / f"{number}.onnx"
        ir.save(ir.from_onnx_text(f"{text} {{ h = Mul(x, w)  y = Cast<to = 7>(h) }}"), path)
    np.savez(tmp_path / "x.npz", x=np.float32(1))
    models = [str(tmp_path / "1.0.onnx"), str(tmp_path / "2.0.onnx")]
    assert run_command(["diff", *models, "--inputs", str(tmp_path / "x.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["outputs"]["excess"] is None and "not identical" in found["outputs"]["reason"]


def test_json_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["passes", "fues", "--json"]) == 2
    assert "fues" in json.loads(capsys.readouterr().out)["error"]["what"]
