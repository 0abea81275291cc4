"""Room for draws of few samples that hold none of the large ones."""

from __future__ import annotations

import math

import pytest

from optc.passes.quantize.choice.few import Larger


@pytest.mark.parametrize(("seen", "share"), [(1, 0.95), (13, 0.2058), (256, 0.01163)])
def test_what_one_draw_in_twenty_misses_counts_as_the_worst(seen: int, share: float) -> None:
    """None of ``seen`` samples lies in that share of all data in one draw of twenty."""
    assert (1 - share) ** seen == pytest.approx(0.05, rel=1e-2)
    squared = (1 - share) * 0.01**2 + share * 0.05**2
    assert Larger(0.01, 0.05, seen).expected == pytest.approx(math.sqrt(squared), rel=1e-3)


@pytest.mark.parametrize("seen", [1, 16, 1000])
def test_where_nothing_is_cut_off_few_samples_cost_nothing(seen: int) -> None:
    found = Larger(0.01, 0.01, seen)
    assert found.expected == found.likely and found.told(0.02) == ()


def test_errors_that_have_no_number_stay_that() -> None:
    assert Larger(0.01, math.inf, 1000).expected == math.inf
    assert math.isnan(Larger(math.nan, math.nan, 1000).expected)
    assert math.isnan(Larger(math.nan, 0.01, 1000).expected)


def test_the_user_is_told_what_few_samples_take_of_the_limit_and_what_more_would_leave() -> None:
    [told] = Larger(0.01, 0.03, 13).told(0.02)
    assert told.node == "max-error"
    assert told.reason == (
        "0.02 is held to 0.0123, because other data may be larger than the 13 samples that calibration saw; "
        "64 would leave 0.0171 of it"
    )


@pytest.mark.parametrize(
    ("found", "limit"),
    [(Larger(0.01, 0.03, 13), None), (Larger(0.01, 0.03, 64), 0.02), (Larger(0.0, 0.0, 13), 0.02)],
)
def test_nothing_is_told_without_a_limit_or_where_there_are_many(found: Larger, limit: float | None) -> None:
    assert found.told(limit) == ()
