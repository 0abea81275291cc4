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
