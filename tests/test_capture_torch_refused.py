"""Capture from PyTorch refuses clearly: what cannot be captured, arguments that do not fit, lost state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captured_module import X, line_of, module
from torch import nn

from optc.capture import capture
from optc.errors import CaptureError, UserError


def test_state_that_is_lost_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x * self.calls

    capture(Counter(), X)
    assert "calls in place" in caplog.text


def branch_on_data(self: Any, x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        return x
    return -x


@pytest.mark.parametrize(
    ("forward", "example", "what", "hint"),
    [
        (branch_on_data, X, "Could not guard", "torch.cond"),
        (lambda self, x: x @ torch.ones(3, 3), X, "cannot capture", ""),
        (lambda self, x: {1, 2, x}, X, "cannot capture", ""),
        (lambda self, x: torch.linalg.eigvals(x).real, torch.eye(3), "eig", "other operators"),
        (lambda self, x: torch.linalg.eigvals(x), torch.eye(3), "complex results", "view_as_real"),
        (lambda self, x: x, torch.ones(2, dtype=torch.complex64), "complex", "view_as_real"),
        (lambda self, x: x.to_sparse(), X, "", ""),
        (lambda self, x: None, X, "returns no tensor", "return what"),
        (lambda self, x: "text", X, "returns no tensor", "return what"),
    ],
)
def test_what_cannot_be_captured(forward: Any, example: Any, what: str, hint: str) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(module(forward), example)
    assert what in caught.value.what and hint in (caught.value.hint or "")
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 900


def test_errors_name_the_line_of_the_model() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(module(branch_on_data), X)
    assert f"test_capture_torch_refused.py:{line_of(__file__, 'if x.sum() > 0')}" in (
        caught.value.where or ""
    )


@pytest.mark.parametrize(
    ("example", "shapes", "what"),
    [
        (None, None, "example inputs"),
        ((X, X, X), None, "too many positional"),
        ({"z": X}, None, "missing a required argument"),
        ((X, object()), None, "object cannot be an input"),
        ((X, X), {"z": {0: "n"}}, "'z'"),
        ((X, X), ({0: "n"},), "1 entries for 2"),
        ((X, X), "batch", "dynamic_shapes is a str"),
        ((X, X), {"x": {0: "no name"}}, "'no name'"),
    ],
)
def test_arguments_that_do_not_fit(example: Any, shapes: Any, what: str) -> None:
    with pytest.raises(UserError, match="(?s).*") as caught:
        capture(module(lambda self, x, y=None: x), example, dynamic_shapes=shapes)
    assert what in caught.value.what


def test_feeds_replace_the_example(tmp_path: Any) -> None:
    np.savez(tmp_path / "x.npz", input=np.zeros((3, 4), np.float32))
    captured = capture(nn.Linear(4, 4), X, inputs=tmp_path / "x.npz")
    assert not captured.examples[0]["input"].any()
    with pytest.raises(UserError, match="did you mean 'input'"):
        capture(nn.Linear(4, 4), X, inputs={"inputs": np.zeros((3, 4), np.float32)})
    with pytest.raises(UserError, match="float64"):
        capture(nn.Linear(4, 4), X, inputs={"input": np.zeros((3, 4))})
    with pytest.raises(UserError, match=r"shape \(3, 5\)"):
        capture(nn.Linear(4, 4), X, inputs={"input": np.zeros((3, 5), np.float32)})
