"""What error is allowed, and the margin that keeps it on data that nobody has seen."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from optc.allowance import Allowance
from optc.difference import Difference
from optc.holdout import Unseen


def error(rel_l2: float) -> Difference:
    return Difference(rel_l2, cosine=1.0, top1=1.0, max_abs=0.0, output="y", excess=2.0)


@pytest.mark.parametrize(
    ("level", "given", "metric", "expected"),
    [(1, None, False, None), (2, None, False, 0.1), (3, None, False, 0.1), (2, 0.3, False, 0.3)]
    + [(2, None, True, None), (2, 0.3, True, 0.3)],
)
def test_levels_allow_a_tenth(level: int, given: float | None, metric: bool, expected: float | None) -> None:
    assert Allowance.of_level(level, given, has_metric=metric).max_error == expected


@pytest.mark.parametrize("chosen", [True, False])
def test_an_error_above_the_limit_is_refused(chosen: bool) -> None:
    assert "0.11 is above the allowed 0.1" in str(Allowance(0.1, chosen).exceeded(error(0.11), None))
    assert "nan" in str(Allowance(0.1, chosen).exceeded(error(float("nan")), None))
    assert Allowance(None, chosen).exceeded(error(9.0), None) is None


def test_discrete_outputs_alone_that_differ_have_no_error_to_judge() -> None:
    found = replace(error(0.0), output="", excess=math.inf, reason="y: int64 values are not identical")
    reason = str(Allowance(0.1, chosen=True).exceeded(found, None))
    assert "cannot be taken: y: int64" in reason and "--metric" in reason
    assert Allowance(0.1).exceeded(found, None) is None
    beside = replace(found, output="z")
    assert Allowance(0.1, chosen=True).exceeded(beside, None) is None


def test_outputs_that_cannot_be_compared_are_refused_with_the_reason() -> None:
    found = replace(error(math.inf), reason="y: NaN or infinity at other places")
    assert str(Allowance(0.1).exceeded(found, None)).endswith("y: NaN or infinity at other places")


def test_data_that_calibration_did_not_see_decides() -> None:
    allowed = Allowance(0.1)
    assert allowed.exceeded(error(0.05), Unseen(rel_l2=0.08, bound=0.09, samples=10)) is None
    reason = allowed.exceeded(error(0.05), Unseen(rel_l2=0.08, bound=0.12, samples=10))
    assert reason is not None and "10 samples" in reason and "up to 0.12" in reason


def test_without_such_data_a_level_keeps_a_distance_and_named_passes_need_not() -> None:
    assert Allowance(0.1).exceeded(error(0.095), None) is None
    assert "too near" in str(Allowance(0.1, chosen=True).exceeded(error(0.095), None))
    assert "too near" in str(Allowance(0.1, chosen=True).exceeded(error(0.071), None))
    assert Allowance(0.1, chosen=True).exceeded(error(0.069), None) is None


def test_a_level_keeps_nothing_that_it_cannot_judge() -> None:
    assert "cannot be taken: no samples" in str(Allowance(0.1, chosen=True).unjudged("no samples"))
    assert Allowance(0.1).unjudged("no samples") is None
    assert Allowance(chosen=True).unjudged("no samples") is None


@pytest.mark.parametrize(
    ("chosen", "found", "less"),
    [
        (False, {"rel_l2": 0.2}, 0.85 * 0.05 / 2),
        (True, {"rel_l2": 0.2}, 0.85 * 0.05 * 0.7 / 2),  # nothing was kept back: it must end up at 0.07
        (True, {"rel_l2": 0.09}, 0.85 * 0.05 * 0.07 / 0.09),
        (True, {"rel_l2": 0.09, "unseen": {"bound": 0.2}}, 0.85 * 0.05 / 2),
        (False, {"rel_l2": math.inf}, None),
        (False, {"rel_l2": 0.05}, None),
        (False, {"skipped": "no samples"}, None),
    ],
)
def test_what_made_too_large_an_error_is_allowed_less(
    chosen: bool, found: dict[str, Any], less: float | None
) -> None:
    allowed = Allowance(0.1, chosen).less(0.05, found)
    assert allowed == (None if less is None else pytest.approx(less))
