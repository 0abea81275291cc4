"""Some samples are kept from calibration, evenly, without reading any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from optc.holdout import Part, Spread, split
from optc.passbase import Feeds


class Unread(Sequence[Feeds]):
    """Samples that remember which of them were read."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, list[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Feeds:  # type: ignore[override]
        self.read.append(index)
        return {"x": np.full(1, index)}


def test_every_fifth_sample_is_kept_back_and_none_is_read() -> None:
    samples = Unread(12)
    seen, unseen = split(samples)
    assert unseen == {4, 9} and len(seen) == 10 and not samples.read
    assert [int(feeds["x"][0]) for feeds in seen] == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]


def test_few_samples_are_all_calibrated_on() -> None:
    samples = Unread(4)
    seen, unseen = split(samples)
    assert seen is samples and unseen == frozenset()


def test_a_large_set_keeps_no_more_back_than_needed() -> None:
    seen, unseen = split(Unread(10_000))
    assert len(unseen) == 100 and len(seen) == 9_900


def test_a_slice_of_a_part_reads_nothing() -> None:
    samples = Unread(10)
    part = Part(samples, [1, 3, 5])[1:]
    assert not samples.read
    assert [int(feeds["x"][0]) for feeds in part] == [3, 5]


def test_the_bound_follows_the_spread_between_samples() -> None:
    even, uneven = Spread(), Spread()
    for error in (0.1, 0.1, 0.1, 0.1):
        even.add({"y": np.ones(4)}, {"y": np.ones(4) + error})
    for error in (0.0, 0.2, 0.0, 0.2):
        uneven.add({"y": np.ones(4)}, {"y": np.ones(4) + error})
    found, wide = even.result(), uneven.result()
    assert found is not None and wide is not None
    assert found.rel_l2 == pytest.approx(0.1) and found.bound == pytest.approx(0.1)
    assert wide.rel_l2 == pytest.approx(np.sqrt(0.02)) and wide.samples == 4
    assert wide.bound == pytest.approx(wide.rel_l2 + 3.182 * np.std([0, 0.2, 0, 0.2], ddof=1) / 2)
    assert Spread().result() is None


def test_samples_that_calibration_saw_tell_how_much_errors_differ() -> None:
    """A single sample that was kept back has no spread of its own."""
    found = Spread()
    for number, error in enumerate((0.0, 0.2, 0.1)):
        found.add({"y": np.ones(4)}, {"y": np.ones(4) + error}, unseen=number == 2)
    result = found.result()
    assert result is not None and result.samples == 1
    assert result.rel_l2 == pytest.approx(0.1) and result.deviation == pytest.approx(0.1)
    assert result.bound == pytest.approx(0.1 + 4.303 * 0.1)
    seen_only = Spread()
    seen_only.add({"y": np.ones(4)}, {"y": np.ones(4)}, unseen=False)
    assert seen_only.result() is None
