"""Questions that a model asks about values: answered where no input has a part in them, refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optc.capture import capture
from optc.errors import CaptureError
from optc.oracle import run

X = torch.arange(24.0).reshape(2, 3, 4)


class Model(nn.Module):
    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.compute = forward
        self.register_buffer("stride", torch.tensor(2))
        self.register_buffer("mask", torch.tensor([1, 1, 0]))
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(self, x)


def branch_on_a_buffer(m: Any, x: torch.Tensor) -> torch.Tensor:
    return x * 2 if (m.mask == 0).any() else x


def padding_from_a_buffer(m: Any, x: torch.Tensor) -> torch.Tensor:
    extra = torch.ceil(x.shape[-1] / m.stride).to(torch.int64) - 1
    left = max(m.stride, extra)
    return nn.functional.pad(x, (left, extra))[..., : x.shape[-1] + extra]


def size_from_integers(m: Any, x: torch.Tensor) -> torch.Tensor:
    half = torch.div(x.size(2), 2, rounding_mode="trunc")
    return x.view(x.size(0), x.size(1), half, 2).new_ones((half + 1, 3)) * x.view(-1, half, 2)[0].sum()


def branch_on_a_mask_made_inside(m: Any, x: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(x.shape[:2])
    mask[:, 0] = 0
    return x * 3 if mask.sum().item() == 4 else x


def loop_over_a_list(m: Any, x: torch.Tensor) -> torch.Tensor:
    for start, size in enumerate(m.mask.tolist()):
        x = x + start * size
    return x


def written_through_a_view(m: Any, x: torch.Tensor) -> torch.Tensor:
    table = torch.zeros(4)
    table[1:].view(3)[:1] += 5
    return x + int(table[1])


ANSWERED = [
    branch_on_a_buffer,
    padding_from_a_buffer,
    size_from_integers,
    branch_on_a_mask_made_inside,
    loop_over_a_list,
    written_through_a_view,
]


@pytest.mark.parametrize("forward", ANSWERED, ids=lambda f: f.__name__)
def test_what_follows_from_constants_is_known(forward: Any) -> None:
    model = Model(forward)
    captured = capture(model, X)
    (result,) = run(captured.model, captured.examples[0]).values()
    np.testing.assert_allclose(result, model(X).detach().numpy(), rtol=1e-6)
    assert model.mask.tolist() == [1, 1, 0]
    assert not model._forward_pre_hooks


def branch_on_the_input(m: Any, x: torch.Tensor) -> torch.Tensor:
    return x * 2 if (x.sum() * m.stride) > 0 else x


def branch_on_what_the_input_wrote(m: Any, x: torch.Tensor) -> torch.Tensor:
    table = torch.zeros(2, 3)
    view = table[0]
    table.copy_(x[..., 0])
    return x * 2 if view.sum() > 0 else x


def branch_on_chance(m: Any, x: torch.Tensor) -> torch.Tensor:
    return x * 2 if torch.rand(3).sum() > 1 else x


@pytest.mark.parametrize(
    "forward",
    [branch_on_the_input, branch_on_what_the_input_wrote, branch_on_chance],
    ids=lambda f: f.__name__,
)
def test_what_depends_on_an_input_or_on_chance_is_refused(forward: Any) -> None:
    with pytest.raises(CaptureError) as error:
        capture(Model(forward), X)
    assert "test_capture_constants.py" in str(error.value)
    assert "torch.cond" in str(error.value)


def overlapping(x: torch.Tensor) -> torch.Tensor:
    return x.as_strided((2, 3, 2), (x.stride(0), 1, x.stride(2)))


def from_an_offset(x: torch.Tensor) -> torch.Tensor:
    return x.as_strided((3, 2), (2, 1), x.storage_offset() + 4)


@pytest.mark.parametrize("windows", [overlapping, from_an_offset], ids=lambda f: f.__name__)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_as_strided_sees_the_memory_of_the_eager_run(windows: Any, order: tuple[int, ...]) -> None:
    """The exporter takes every input for contiguous, and so reads other numbers behind a transpose."""
    model = Model(lambda m, x: windows((x + 1).permute(order)))
    captured = capture(model, X)
    (result,) = run(captured.model, captured.examples[0]).values()
    np.testing.assert_array_equal(result, model(X).numpy())


def test_as_strided_over_gaps_is_refused() -> None:
    with pytest.raises(CaptureError, match="gaps in memory") as error:
        capture(Model(lambda m, x: (x + 1)[:, :2].as_strided((2, 2), (12, 1))), X)
    assert "contiguous" in str(error.value)
    assert "test_capture_constants.py" in str(error.value)
