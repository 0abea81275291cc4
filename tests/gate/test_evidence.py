"""How long the gate goes on measuring: until a ratio is decided, and not for ever."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from optc.gate.contest import PLAIN, Candidate, Sample, Samples, candidate
from optc.gate.evidence import ENOUGH, ENOUGH_TO_DROP, MAX_SESSIONS, Evidence

CHALLENGER = candidate({"gelu": "Gelu"})
LONG = 50  # sessions; nothing should take as many


def sessions(log_ratios: Iterator[float]) -> int:
    """How many are taken of a challenger whose log time ratios come like this."""
    rest = itertools.islice(log_ratios, LONG)

    def measure(reference: Candidate, challengers: Sequence[Candidate]) -> Samples:
        ratio = next(rest)  # StopIteration: it never ends
        return {each: {"as given": Sample(ratio, 1.0, 1.0)} for each in challengers}

    evidence = Evidence(measure, lambda: False, group_size=2)
    evidence.gather(PLAIN, [CHALLENGER])
    return evidence.sessions(PLAIN, CHALLENGER)


@pytest.mark.parametrize(
    ("ratios", "taken"),
    [
        (itertools.cycle((0.2, -0.2)), MAX_SESSIONS),
        (itertools.repeat(0.2), ENOUGH),
        (itertools.repeat(-0.2), ENOUGH_TO_DROP),
        (itertools.repeat(0.0), ENOUGH_TO_DROP),
    ],
    ids=["noise", "faster", "slower", "alike"],
)
def test_measuring_ends_when_more_would_not_decide(ratios: Iterator[float], taken: int) -> None:
    assert sessions(ratios) == taken


def test_without_time_only_what_is_always_wanted_is_measured() -> None:
    taken = list[int]()

    def measure(reference: Candidate, challengers: Sequence[Candidate]) -> Samples:
        taken.append(len(challengers))
        return {each: {"as given": Sample(0.2, 1.0, 1.0)} for each in challengers}

    evidence = Evidence(measure, lambda: True, group_size=2)
    evidence.gather(PLAIN, [CHALLENGER])
    assert evidence.pooled(PLAIN, CHALLENGER) is None
    evidence.gather(PLAIN, [CHALLENGER], always=2)
    assert evidence.sessions(PLAIN, CHALLENGER) == 2 == len(taken)
