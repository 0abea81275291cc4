"""What tests of the capture from PyTorch share: small modules, calling what was captured, comparing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from torch import nn
from torch.utils import _pytree

from optc.capture import Captured


def module(function: Any) -> nn.Module:
    """A module whose forward is ``function``, so that a test can show just that."""
    return type("Small", (nn.Module,), {"forward": function})()


def run(captured: Captured, *args: Any, **kwargs: Any) -> Any:
    """Calls the captured model in plain ONNX Runtime as one would call the module."""
    session = ort.InferenceSession(ir.to_proto(captured.model).SerializeToString())
    given = captured.signature.flatten(args, kwargs)
    feeds = {name: np.asarray(value) for name, value in given.items()}
    names = [output.name for output in session.get_outputs()]
    return captured.signature.unflatten(dict(zip(names, session.run(None, feeds), strict=True)))


def assert_same(actual: Any, expected: Any) -> None:
    """Same structure, same values."""
    got, got_spec = _pytree.tree_flatten(actual)
    want, want_spec = _pytree.tree_flatten(expected)
    assert got_spec == want_spec
    for a, b in zip(got, want, strict=True):
        if isinstance(b, torch.Tensor):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-4, atol=1e-5)
        else:
            assert type(a) is type(b) and a == b


def line_of(file: str, text: str) -> int:
    """The number of the first line of a file that has this text."""
    lines = Path(file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
