"""Every test starts with nothing compiled, nothing counted, and no disk cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from optc import torch_backend


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPTC_CACHE_DIR", "")
    torch._dynamo.reset()
    torch_backend.reset_stats()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()
