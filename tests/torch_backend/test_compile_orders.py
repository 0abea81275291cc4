"""Sorted axes and what is read from them: ties, NaN, infinities, whole numbers, sizes that are not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import agree, captured

INF, NAN = float("inf"), float("nan")
X = torch.tensor(
    [
        [0.5, -1, 3, 2, -0.25, 8, 7],
        [1, NAN, -INF, INF, 2, NAN, 0],
        [INF, 4, 9, INF, -3, -INF, 1.5],
        [NAN, NAN, NAN, NAN, NAN, NAN, NAN],
    ]
)
TIES = torch.tensor([[2, 1, 2, 0, 1, 2, -5], [0, 0, 0, 0, 0, 0, 0]])
Function = Callable[..., Any]

SORTED: dict[str, Function] = {
    "sort": lambda x: x.sort(dim=-1, stable=True),
    "descending": lambda x: x.sort(dim=0, descending=True, stable=True),
    "places": lambda x: x.argsort(dim=1, stable=True),
    "running largest": lambda x: x.cummax(1),
    "running smallest": lambda x: x.cummin(-2),
}
VALUES: dict[str, Function] = {
    "median": lambda x: x.median(1)[0],
    "median kept": lambda x: x.median(0, keepdim=True)[0],
    "median of all": lambda x: x.median(),
    "nanmedian": lambda x: x.nanmedian(-1)[0],
    "nanmedian of all": lambda x: x.nanmedian(),
    "kthvalue": lambda x: x.kthvalue(2, 0)[0],
    "kthvalue kept": lambda x: x.kthvalue(3, keepdim=True)[0],
}


@pytest.mark.parametrize("name", [*SORTED, *VALUES])
@pytest.mark.parametrize("given", [X, TIES], ids=["floats", "ties"])
def test_along_an_axis(name: str, given: torch.Tensor) -> None:
    """Of equal elements torch may name any as the median's place, so that only values are compared there."""
    captured({**SORTED, **VALUES}[name], (given,), (given.flip(1),))


@pytest.mark.parametrize("name", ["median", "nanmedian", "kthvalue"])
def test_the_place_is_where_the_value_is(name: str) -> None:
    def taken(x: torch.Tensor) -> torch.Tensor:
        place: torch.Tensor = (x.kthvalue(2, 1) if name == "kthvalue" else getattr(x, name)(1))[1]
        return x.gather(1, place[:, None])

    captured(taken, (TIES,), (X,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats(dtype: torch.dtype) -> None:
    captured(lambda x: (*x.sort(dim=1, stable=True), x.median(1)[0], *x.cummax(1)), (X.to(dtype),))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_running_extremes_of_whole_numbers(dtype: torch.dtype) -> None:
    captured(lambda x: (x.cummax(1), x.cummin(0)), (TIES.abs().to(dtype),))


def test_sizes_that_are_not_known() -> None:
    calls = ((X,), (X[:3, :2],), (X[:2, :5],))
    captured(lambda x: (x.median(1)[0], x.sort(dim=0, stable=True), x.cummin(1)), *calls, dynamic=True)


def test_quantiles_of_rows_with_nan() -> None:
    """They are NaN for every share that is asked for, and those of other rows are not."""
    captured(lambda x: x.quantile(torch.tensor([0.1, 0.5, 1]), 1), (X[:, :5],), (X[:, 4:],))
    captured(lambda x: x.nanquantile(0.3, dim=1), (X,))


EDGES = torch.tensor([-INF, -1.0, 0.0, 0.0, 0.5, 2.0, INF])


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_places_in_a_sorted_axis(right: bool, count: int) -> None:
    """On an element, between elements, outside, at NaN; a row of its own for each row; other types."""

    def places(x: torch.Tensor, edges: torch.Tensor) -> list[torch.Tensor]:
        return [
            torch.searchsorted(edges, x, right=right),
            torch.searchsorted(edges.expand(len(x), -1), x, right=right, out_int32=True),
            torch.searchsorted(edges, x[0, 0], right=right),
            torch.searchsorted(edges, x.double(), side="right" if right else "left"),
            torch.bucketize(x, edges, right=right),
        ]

    captured(places, (X, EDGES[:count]), (torch.cat([EDGES, EDGES])[None], EDGES[:count]))


def test_what_is_searched_may_not_be_sorted() -> None:
    """The steps are torch's own, and so are their results."""
    captured(lambda x, y: torch.searchsorted(x, y), (X[0], X), (X[2], TIES.float()))


def test_nothing_to_search_and_another_order_stay_with_torch() -> None:
    with pytest.warns(UserWarning, match="searchsorted"):
        agree(lambda x, y: torch.searchsorted(x, y), (X[0, :0], X))
    with pytest.warns(UserWarning, match="searchsorted"):
        agree(lambda x, y: torch.searchsorted(x, y, sorter=x.argsort()), (X[0], X))
