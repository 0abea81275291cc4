"""The search believes what it has seen, and is curious about what it has not."""

from __future__ import annotations

import numpy as np

from optc.passes.skip_layers._search import expected

SCORES = {(0, 1): 0.9, (0, 2): 0.5, (3, 4): 0.1}


def test_what_was_tried_is_expected_again() -> None:
    found = expected(SCORES, list(SCORES), 6)
    assert found.argsort().tolist() == [2, 1, 0]


def test_neighbours_of_good_sets_come_before_neighbours_of_bad_ones() -> None:
    good, bad = expected(SCORES, [(1, 5), (3, 5)], 6)
    assert good > bad


def test_what_nothing_is_known_of_is_worth_more_than_it_seems() -> None:
    """Two sets of the same expectation: the one that is farther from all that was tried comes first."""
    near, far = expected({(0, 1): 0.5, (2, 3): 0.5}, [(0, 1), (4, 5)], 6)
    assert far > near
    assert np.isfinite([near, far]).all()
