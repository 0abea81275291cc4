"""Embedding bags: of equal and of any lengths, with rows that count as absent, with NaN and infinities."""

from __future__ import annotations

import pytest
import torch
from side_by_side import captured
from torch import nn
from torch.export import Dim
from torch.nn import functional

from optc.capture import capture

INF, NAN = float("inf"), float("nan")
FLAT, STARTS = torch.tensor([2, 4, 1, 3, 0, 5, 5, 2]), torch.tensor([0, 2, 2, 5, 8])
TABLE = torch.tensor([[1.0, -2, 3], [-INF, 4, 1], [0.5, NAN, INF], [2, NAN, -INF], [3, 1, -7], [6, NAN, 0]])


def bags(mode: str, **options: object) -> object:
    return lambda indices, *starts: functional.embedding_bag(indices, TABLE, *starts, mode=mode, **options)


@pytest.mark.parametrize("padding", [None, 5, -4], ids=["all", "but_5", "but_minus_4"])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_of_any_lengths_and_without_rows(mode: str, padding: int | None) -> None:
    found = bags(mode, padding_idx=padding)
    nothing = torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0])
    captured(found, (FLAT, STARTS), (FLAT[:5], torch.tensor([0, 0, 4])), dynamic=True)
    captured(found, nothing)


@pytest.mark.parametrize("padding", [None, 5], ids=["all", "but_5"])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_of_equal_lengths(mode: str, padding: int | None) -> None:
    found = bags(mode, padding_idx=padding)
    captured(found, (FLAT.reshape(2, 4),), (FLAT.flip(0).reshape(4, 2),), (FLAT[:0].reshape(0, 3),))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_the_last_offset_ends_the_last_bag(mode: str) -> None:
    captured(bags(mode, include_last_offset=True), (FLAT, STARTS.int()), (FLAT.int(), STARTS.int()))


def test_weights_per_sample_in_double() -> None:
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def weighted(indices: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return functional.embedding_bag(
            indices, TABLE.double(), starts, mode="sum", per_sample_weights=weights
        )

    captured(weighted, (FLAT, STARTS, weights))


def test_bags_of_equal_length_are_reduced_along_an_axis() -> None:
    """Scattering rows one by one takes several times as long."""
    model = capture(
        nn.EmbeddingBag(6, 3, mode="mean"), (FLAT.reshape(2, 4),), dynamic_shapes=({0: Dim("batch")},)
    ).model
    assert "ReduceMean" in (operators := {node.op_type for node in model.graph})
    assert not operators & {"ScatterND", "Loop"}


def test_offsets_that_leave_a_longer_last_bag_are_no_equal_lengths() -> None:
    def uneven(indices: torch.Tensor) -> torch.Tensor:
        return functional.embedding_bag(indices.reshape(-1), TABLE, torch.arange(0, 4, 4), mode="sum")

    captured(uneven, (FLAT.reshape(2, 4),))
