"""Captures in several threads take turns: each changes torch, its exporter and streams for the while."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optc.capture import capture, convert, pt2_file
from optc.capture.quiet import quiet

X = torch.ones(2, 3)


class Interruption:
    """Calling it starts `work` in another thread, once, and gives it time to get through.

    Without turns it does, in about a tenth of a second; with them it begins when the caller is done.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=work)
        self._started = False

    def __call__(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
            self._thread.join(1)

    def wait(self) -> None:
        """Until the work is done: what is changed only for its while is not to be looked at before."""
        if self._started:
            self._thread.join()


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], Any]], Interruption]]:
    made: list[Interruption] = []

    def of(work: Callable[[], Any]) -> Interruption:
        made.append(Interruption(work))
        return made[-1]

    yield of
    for one in made:
        one.wait()


class Halved(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x + 1e-8)


def test_a_trace_keeps_what_it_changed_of_torch(meanwhile: Callable[..., Interruption]) -> None:
    """Layers that look into a mask, and the mode of the module, which the other thread captures as well."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).train()

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            interrupted()
            return self.encoder(x, mask=mask)

    made, arguments = Encoder(), (torch.randn(2, 5, 8), torch.zeros(5, 5))
    interrupted = meanwhile(lambda: capture(made, arguments))
    captured = capture(made, arguments)
    interrupted.wait()
    assert made.training and encoder.training
    assert not [node for node in captured.model.graph if node.op_type == "Dropout"]


def test_a_conversion_keeps_the_digits_of_numbers(
    meanwhile: Callable[..., Interruption], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted, export = meanwhile(lambda: capture(Halved(), X)), torch.onnx.export

    def interrupted_export(*args: Any, **kwargs: Any) -> Any:
        interrupted()
        return export(*args, **kwargs)

    monkeypatch.setattr(convert.torch.onnx, "export", interrupted_export)
    captured = capture(Halved(), X)
    interrupted.wait()
    assert [node.op_type for node in captured.model.graph] == ["Add", "Div"]


def test_a_file_is_read_without_unpickling(
    meanwhile: Callable[..., Interruption], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's switch for that is an environment variable."""
    path, switch = tmp_path / "p.pt2", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    torch.export.save(torch.export.export(Halved(), (X,)), path)
    interrupted, load = meanwhile(lambda: pt2_file.load_pt2(path)), torch.export.load

    def interrupted_load(*args: Any, **kwargs: Any) -> Any:
        interrupted()
        switched.append(os.environ.get(switch))
        return load(*args, **kwargs)

    switched: list[str | None] = []
    monkeypatch.setattr(torch.export, "load", interrupted_load)
    monkeypatch.delenv(switch, raising=False)
    pt2_file.load_pt2(path)
    interrupted.wait()
    assert set(switched) == {"1"}


def test_streams_and_loggers_are_put_back() -> None:
    """Whoever came while they were muted, and left later, would mute them for good."""
    stream, level = sys.stderr, logging.getLogger("torch").level
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with quiet():
        other.start()
        inside.wait(0.2)
    leave.set()
    other.join()
    assert sys.stderr is stream and logging.getLogger("torch").level == level
