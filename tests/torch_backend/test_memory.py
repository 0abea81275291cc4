"""Every write to memory is noticed: large ones at once, a single byte when its turn comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optc.torch_backend import memory
from optc.torch_backend.memory import CALLS, Spots, Turns, elements
from optc.torch_backend.weights import Watch


def rounds_until_seen(turns: Turns) -> int | None:
    """How many turns pass before the change is seen."""
    return next((i for i in range(1, len(turns) + 1) if not turns.same()), None)


@pytest.mark.parametrize("place", [0, 1, 777_777, -2, -1])
def test_one_element_written_through_data_is_seen_within_a_round(place: int) -> None:
    weight, bias = nn.Parameter(torch.rand(3000, 509)), nn.Parameter(torch.rand(5))
    watch = Watch([weight, bias])
    assert all(watch.holds([weight, bias]) for _ in range(2 * watch.turns))
    weight.data.view(-1)[place] += 1e-3
    assert not all(watch.holds([weight, bias]) for _ in range(watch.turns))


def test_all_is_looked_at_in_few_calls() -> None:
    """Many small tensors too; what fits into one turn at every call."""
    arrays = [elements(torch.rand(1000, 1000)), *(elements(torch.rand(3)) for _ in range(200))]
    assert CALLS <= len(Turns(arrays)) <= CALLS + 4 * (200 / 8 + 2)
    assert len(Turns(arrays[1:])) == 4 * 25
    small = torch.rand(100)
    turns = Turns([elements(small), elements(torch.rand(20, 20))])
    for place in range(100):
        assert turns.same()
        small[place] += 1
        assert not turns.same()
        turns = Turns([elements(small)])


@pytest.mark.parametrize("rows", [(0, 1), (5, 2000)], ids=["neighbours", "far apart"])
def test_rows_that_trade_places_are_seen(rows: tuple[int, int]) -> None:
    table = torch.rand(3000, 384)
    turns = Turns([elements(table)])
    a, b = rows
    table[[a, b]] = table[[b, a]]
    assert rounds_until_seen(turns) is not None


def test_changes_that_cancel_are_seen() -> None:
    table = torch.arange(2048, dtype=torch.int64)
    turns = Turns([elements(table)])
    table[3] += 1
    table[7] -= 1
    assert rounds_until_seen(turns) == 1


@pytest.mark.parametrize("start", [0, 0.3, 0.87])
def test_an_eighth_of_a_tensor_is_seen_at_once(start: float) -> None:
    table = torch.rand(9000, 31)
    spots = Spots([elements(torch.rand(7)), elements(table)])
    first = int(start * len(table))
    table[first : first + len(table) // 7] *= 0
    assert not spots.same()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float32, torch.complex128])
def test_a_single_number_is_seen_at_once(dtype: torch.dtype) -> None:
    flat = torch.zeros(9, dtype=dtype)
    for number in (flat[3:4], flat[8]):
        spots = Spots([elements(number)])
        assert spots.same()
        number.fill_(1)
        assert not spots.same()


def test_between_the_elements_belongs_to_somebody_else() -> None:
    """A buffer that is a slice of a larger one does not change with the rest of it."""
    whole = torch.zeros(50, 6)
    for part in (whole[:, 2:4], whole[::2, 1], whole[:, 3]):
        array = elements(part)
        spots, turns = Spots([array]), Turns([array])
        whole[:, 0] += 1
        assert spots.same() and rounds_until_seen(turns) is None
        part[-1] += 1
        assert rounds_until_seen(turns) is not None


def test_layouts_and_empty_tensors() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert elements(x.permute(2, 0, 1)).tobytes() == x.numpy().tobytes()
    assert elements(x[:1, :1].expand(5, 3, 4)).tobytes() == x[0, 0].numpy().tobytes()
    for array in (elements(torch.zeros(0, 3)), elements(torch.zeros(2, 0).t())):
        assert array.size == 0 and Spots([array]).same() and Turns([array]).same()
    assert Spots([]).same() and Turns([]).same()


def test_large_pieces_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LEAST", 64)
    gaps = elements(torch.zeros(100, 8)[:, :5])
    assert len(Turns([gaps])) > 4 * 20
    assert len(Turns([np.zeros(1000, np.uint8)])) == 4 * 16
