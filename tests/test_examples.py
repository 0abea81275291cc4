"""The examples run, and the real model compiles through the command line into a stock ONNX Runtime model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from optc.cli import run_command

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_tour_runs() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "00_tour.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kinds: ['MultiHeadAttention', 'PackedLinear', 'SkipLayerNorm']" in done.stdout


def test_a_depthwise_network_keeps_its_accuracy_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import digits_int8
    import torch

    (x, y), (test_x, test_y) = digits_int8.digits()
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for a second one
    module = digits_int8.train(digits_int8.MobileNet(), x, y, epochs=4)
    torch.set_num_threads(threads)
    exact = digits_int8.compiled(module, x)
    int8 = digits_int8.compiled(module, x, digits_int8.INT8)
    before, after = (digits_int8.accuracy(artifact, test_x, test_y) for artifact in (exact, int8))
    assert before > 90 and before - after <= 0.5
    assert digits_int8.kilobytes(int8) < digits_int8.kilobytes(exact)


@pytest.mark.slow
def test_int8_on_digits_in_full() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "digits_int8.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("int8") == 3


@pytest.mark.slow
def test_fewer_tokens_on_digits_keep_their_accuracy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "digits_tokens.py", tmp_path / "out"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "curve of merge-tokens" in done.stdout
    assert "against latency" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_minilm_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import minilm
    import torch

    out = tmp_path / "out"
    assert run_command(["compile", f"{EXAMPLES / 'minilm.py'}:encoder", "-o", str(out), "--no-gate"]) == 0
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    dims = [dim for value in session.get_inputs() for dim in value.shape]
    assert set(dims) == {"batch", "seq"}
    module = minilm.encoder()[0]
    for texts in (["one"], ["a few words", "and somewhat more words than that", "x"]):
        feeds = minilm.tokenize(texts)
        [found] = session.run(None, feeds)
        with torch.inference_mode():
            expected = module(**{name: torch.from_numpy(value) for name, value in feeds.items()}).numpy()
        assert np.abs(found - expected).max() <= 1e-4
