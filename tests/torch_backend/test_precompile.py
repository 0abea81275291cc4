"""Torch's cache of traces, where the user switches it on, gives back the graphs of this backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from side_by_side import X, same
from torch import nn
from torch._dynamo.precompile_context import PrecompileContext

import optc
from optc import torch_backend
from optc.torch_backend import stats


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """Nothing of it stays in the process."""
    yield
    PrecompileContext.clear()


class Recorder:
    """A backend that records its graph and calls what torch's cache makes of the record."""

    def __init__(self, *, asked: bool = True) -> None:
        self.restored: list[Any] = []
        self._asked = asked

    def __call__(self, module: Any, inputs: Any) -> Any:
        module._backend_id = f"__compiled_fn_{len(self.restored)}"
        with torch._dynamo.config.patch(caching_precompile=self._asked):
            torch_backend.optc(module, inputs)
        found = PrecompileContext.serialize_artifact_by_key(module._backend_id)
        if found is None:
            return module.forward
        self.restored.append(found.after_deserialization())
        return self.restored[-1]


class Model(nn.Module):
    """Weights, a buffer that it writes, a view of an input, a number and None among the results."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor, factor: int) -> tuple[Any, ...]:
        self.calls += 1
        return self.linear(x) * factor, x.mT, None, x.shape[0], self.calls * 2


def test_a_restored_graph_answers_as_the_traced_one() -> None:
    """With weights as constants, sizes that stay dynamic, and writes to buffers."""
    recorder, model, reference = Recorder(), Model().eval(), Model().eval()
    reference.load_state_dict(model.state_dict())
    compiled = torch.compile(model, backend=recorder, dynamic=True)
    with torch.no_grad():
        for batch, factor in ((2, 3), (5, 3), (7, 4)):
            x = torch.rand(batch, 3, 4)
            same(compiled(x, factor), reference(x, factor))
        model.linear.weight.mul_(2)
        reference.linear.weight.mul_(2)
        same(compiled(x, factor), reference(x, factor))
    assert len(recorder.restored) == 1
    assert stats().fallbacks == 0 and stats().recompiles == 1, stats()


def test_a_restored_graph_still_refuses_gradients() -> None:
    compiled = torch.compile(nn.Linear(4, 2), backend=Recorder())
    with pytest.raises(optc.UserError, match="would need gradients"):
        compiled(X)
    with torch.no_grad():
        assert compiled(X).shape == (2, 3, 2)


def test_what_cannot_be_kept_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    module = torch.fx.symbolic_trace(nn.Linear(4, 2))  # its weights are in the graph
    recorder(module, [X])
    assert not recorder.restored
    assert "not kept in torch's cache: it holds tensors of its own" in caplog.text


def test_nothing_is_recorded_unless_asked() -> None:
    recorder = Recorder(asked=False)
    with torch.no_grad():
        torch.compile(lambda x: x + 1, backend=recorder)(X)
    assert not recorder.restored and not PrecompileContext._backend_artifacts_by_key


PROGRAM = """
import torch
from torch._dynamo.utils import counters
from optc.torch_backend import stats

torch.manual_seed(0)
model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()), torch.ones(2, 4)
with torch.no_grad():
    right = torch.allclose(torch.compile(model, backend="optc")(x), model(x), atol=1e-5)
torch.compiler.save_cache_artifacts()
print(right, counters["frames"]["total"], stats().artifact_calls, stats().cache_hits, stats().fallbacks)
"""


@pytest.mark.slow
def test_the_next_process_does_not_trace(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TORCH_CACHING_PRECOMPILE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch"),
        "OPTC_CACHE_DIR": str(tmp_path / "optc"),
    }
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    said = [
        subprocess.run(
            [sys.executable, str(program)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["True", "1", "1", "0", "0"], ["True", "0", "1", "1", "0"]]
