"""What the gate decides, with planted costs instead of a machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from optc.gate.contest import PLAIN, Candidate, Sample
from optc.gate.decisions import INLINE, Entry, GateResult
from optc.gate.search import Search
from optc.report_text import measured

FAMILIES = {"attention": ["Multi", "Single"], "gelu": ["Gelu"], "norm": ["Norm"]}
Cost = Callable[[Mapping[str, str] | None, str], float]  # decisions (None: plain), shape -> seconds


class World:
    """A measure that takes its figures from ``cost``, with noise between sessions, on a clock of its own."""

    def __init__(self, cost: Cost, *, noise: float = 0.01, session_seconds: float = 0.2) -> None:
        self.cost, self.noise, self.session_seconds = cost, noise, session_seconds
        self.generator, self.now = np.random.default_rng(0), 0.0
        self.measured: list[tuple[Candidate, Candidate]] = []

    def clock(self) -> float:
        return self.now

    def measure(
        self, reference: Candidate, challengers: Sequence[Candidate]
    ) -> dict[Candidate, dict[str, Sample]]:
        self.now += self.session_seconds * (1 + len(challengers))
        self.measured += [(reference, challenger) for challenger in challengers]
        return {challenger: self._samples(reference, challenger) for challenger in challengers}

    def _samples(self, reference: Candidate, challenger: Candidate) -> dict[str, Sample]:
        found = {}
        for shape in ("small", "large"):
            left, right = (self._seconds(which, shape) for which in (reference, challenger))
            found[shape] = Sample(math.log(left / right), left, right)
        return found

    def _seconds(self, which: Candidate, shape: str) -> float:
        decisions = None if which is PLAIN else dict(which)
        return self.cost(decisions, shape) * math.exp(self.generator.normal(0.0, self.noise))

    def run(self, families: Mapping[str, Sequence[str]] = FAMILIES, **options: object) -> GateResult:
        given = {"seconds": 60.0, "group_size": 3, "fingerprint": lambda which: which, **options}
        return Search(families, self.measure, clock=self.clock, **given).run()  # type: ignore[arg-type]


def factors(**by_choice: float) -> Cost:
    """Plain takes 1 second; each choice multiplies it (``Gelu=1.2`` is a fused gelu that costs 20%)."""

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        return math.prod(by_choice.get(choice, 1.0) for choice in (decisions or {}).values())

    return cost


def entries(result: GateResult) -> dict[str, Entry]:
    return {entry.what: entry for entry in result.ledger}


def test_families_that_pay_are_kept() -> None:
    result = World(factors(Multi=0.9, Gelu=0.95, Norm=0.97)).run()
    assert result.decisions == {"attention": "Multi", "gelu": "Gelu", "norm": "Norm"}
    assert not result.keep_plain and result.final is not None and result.final.high < 1
    found = entries(result)
    assert found["attention"].verdict == "kept" and found["attention"].reason == "it saves time"
    assert found["attention"].ratio == pytest.approx(0.9, rel=0.02)


def test_a_slower_family_is_undone() -> None:
    result = World(factors(Multi=0.8, Gelu=1.1, Norm=0.95)).run()
    assert result.decisions == {"attention": "Multi", "gelu": INLINE, "norm": "Norm"}
    found = entries(result)["gelu"]
    assert found.verdict == "undone" and found.low is not None and found.low > 1
    assert found.ratio == pytest.approx(1.1, rel=0.02)


def test_every_slower_family_is_undone() -> None:
    result = World(factors(Multi=0.6, Gelu=1.1, Norm=1.2)).run()
    assert result.decisions == {"attention": "Multi", "gelu": INLINE, "norm": INLINE}


def test_a_clear_case_takes_no_more_sessions_than_it_needs() -> None:
    """Two to leave something as it is, three to change it."""
    result = World(factors(Multi=0.7, Gelu=0.8, Norm=1.3), noise=0.001).run()
    assert (entries(result)["gelu"].sessions, entries(result)["norm"].sessions) == (2, 3)


def test_the_faster_lowering_is_chosen() -> None:
    result = World(factors(Multi=0.9, Single=0.8)).run()
    assert result.decisions["attention"] == "Single"
    assert entries(result)["attention: Single"].verdict == "chosen"
    assert entries(result)["attention: Single"].ratio == pytest.approx(0.8 / 0.9, rel=0.02)


def test_a_lowering_that_is_no_faster_is_not_chosen() -> None:
    result = World(factors(Multi=0.9, Single=0.95)).run()
    assert result.decisions["attention"] == "Multi"
    assert entries(result)["attention: Single"].verdict == "not chosen"


def test_no_proven_loss_is_kept() -> None:
    """An exact family has the benefit of the doubt: noise alone undoes nothing."""
    result = World(factors(Multi=0.8), noise=0.03).run()
    assert result.decisions["gelu"] == "Gelu" and result.decisions["norm"] == "Norm"


def test_two_families_that_are_good_alone_and_bad_together() -> None:
    """Both look bad while the other is there; one has to go, not both."""

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        both = {"gelu": "Gelu", "norm": "Norm"}
        if decisions and both.items() <= decisions.items():
            return 1.3
        return factors(Gelu=0.9, Norm=0.8)(decisions, shape)

    result = World(cost).run()
    assert result.decisions["gelu"] == INLINE and result.decisions["norm"] == "Norm"  # the better one is left
    assert not result.keep_plain


def test_a_family_that_pays_only_beside_another_goes_with_it() -> None:
    """With norm it saves 5%, without it costs 10%; and norm costs 20%."""

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        on = set((decisions or {}).values())
        gelu = {True: 0.95, False: 1.1}["Norm" in on] if "Gelu" in on else 1.0
        return gelu * (1.2 if "Norm" in on else 1.0) * (0.8 if "Multi" in on else 1.0)

    result = World(cost).run()
    assert result.decisions == {"attention": "Multi", "gelu": INLINE, "norm": INLINE}


def test_a_family_that_was_undone_comes_back_when_it_pays_again() -> None:
    """Gelu goes first, as the worst; when all the others are gone too, it is the one that pays."""
    costs = {
        (1, 1, 1): 1.6, (0, 1, 1): 1.2, (1, 0, 1): 1.3, (1, 1, 0): 1.6,
        (0, 0, 1): 1.0, (0, 1, 0): 1.2, (0, 0, 0): 0.95, (1, 0, 0): 0.85,
    }  # fmt: skip

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        on = set((decisions or {}).values())
        return costs["Gelu" in on, "Norm" in on, "Multi" in on]

    result = World(cost).run({"gelu": ["Gelu"], "norm": ["Norm"], "attention": ["Multi"]})
    assert result.decisions == {"gelu": "Gelu", "norm": INLINE, "attention": INLINE}
    assert entries(result)["gelu: Gelu"].verdict == "chosen"


def test_two_families_that_only_together_are_worth_undoing() -> None:
    """Each alone costs 10% when the other is gone, and none of them is 10% faster than both."""

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        on = {"Gelu", "Norm"} & set((decisions or {}).values())
        return {0: 0.9, 1: 1.1, 2: 1.0}[len(on)] * factors(Multi=0.8, Single=0.8)(decisions, shape)

    result = World(cost).run()
    assert result.decisions == {"attention": "Multi", "gelu": INLINE, "norm": INLINE}
    assert entries(result)["attention alone"].verdict == "chosen"


def test_the_candidates_of_a_step_are_as_many_as_the_families() -> None:
    families = {f"f{number}": [f"L{number}"] for number in range(12)}
    world = World(factors(**{f"L{number}": 0.97 for number in range(12)}))
    world.run(families, seconds=1000.0)
    assert len({challenger for _, challenger in world.measured}) == 12 + 12 + 1 + 1  # off, alone, none, plain


def test_the_captured_model_is_kept_when_nothing_beats_it() -> None:
    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        return 1.0 if decisions is None else 1.1  # what the passes before the families did costs time

    result = World(cost).run()
    assert result.keep_plain and set(result.decisions.values()) == {INLINE}
    assert entries(result)["artifact"].verdict == "undone"


def test_a_shape_that_loses_is_not_paid_for_by_another() -> None:
    """The mean gains with the fused attention, the large shape loses: it is undone, the rest stays."""

    def cost(decisions: Mapping[str, str] | None, shape: str) -> float:
        attention = {"small": 0.7, "large": 1.2}[shape]
        return factors(Multi=attention, Single=attention, Norm=0.95)(decisions, shape)

    result = World(cost).run()
    assert result.decisions["attention"] == INLINE and result.decisions["norm"] == "Norm"
    assert result.final_by_shape["large"].ratio < 1
    assert "large" in entries(result)["artifact"].reason
    assert entries(result)["artifact without attention"].verdict == "kept"


def test_candidates_that_are_the_same_program_are_measured_once() -> None:
    world = World(factors(Multi=0.9))

    def fingerprint(which: Candidate) -> object:
        return None if which is None else dict(which)["attention"]  # the other families change nothing

    result = world.run(fingerprint=fingerprint)
    challengers = {challenger for _, challenger in world.measured}
    assert len(challengers) == 3  # attention inline, attention as Single, plain
    assert result.decisions["gelu"] == "Gelu"


def test_an_artifact_that_is_the_captured_model_is_not_measured() -> None:
    world = World(factors())
    result = world.run({}, fingerprint=lambda which: 0)
    assert not world.measured and not result.keep_plain
    assert entries(result)["artifact"].reason == "it is the captured model"


@pytest.mark.parametrize("session_seconds", [0.05, 0.5, 2.0])
def test_the_time_budget_holds(session_seconds: float) -> None:
    world = World(factors(Multi=0.99, Gelu=1.005, Norm=1.0), noise=0.02, session_seconds=session_seconds)
    world.run(seconds=30.0)
    assert world.now <= 30.0 + 2 * 4 * session_seconds  # the contest under way at the end of each phase


def test_little_time_is_spent_where_a_gain_may_be_found() -> None:
    """Ten families and time for two sessions of each: the one that costs time gets enough to be proven so."""
    families = {f"f{number}": [f"L{number}"] for number in range(10)}
    costs = {f"L{number}": 0.97 for number in range(10)} | {"L7": 1.1}
    result = World(factors(**costs), session_seconds=1.0).run(families, seconds=50.0)
    assert [family for family, choice in result.decisions.items() if choice == INLINE] == ["f7"]


def test_without_time_the_artifact_is_still_held_against_plain() -> None:
    slow = World(factors(Multi=1.5), session_seconds=100.0).run(seconds=1.0)
    assert slow.keep_plain
    fast = World(factors(Multi=0.5), session_seconds=100.0).run(seconds=1.0)
    assert not fast.keep_plain and fast.decisions["attention"] == "Multi"


def test_what_was_not_measured_says_so() -> None:
    families = {f"f{number}": [f"L{number}"] for number in range(8)}
    result = World(factors(L0=0.5), session_seconds=1.0).run(families, seconds=6.0)
    assert "not measured" in entries(result)["f7"].reason and entries(result)["f7"].ratio is None


def test_progress_reaches_the_end_of_the_budget_in_order() -> None:
    seen: list[float] = []
    World(factors(Multi=0.9), noise=0.05).run(progress=lambda what, fraction: seen.append(fraction))
    assert seen and seen == sorted(seen) and all(0 <= fraction <= 1 for fraction in seen)


def test_the_same_measurements_give_the_same_decisions() -> None:
    results = [World(factors(Multi=0.9, Gelu=1.05), noise=0.03).run() for _ in range(2)]
    assert results[0] == results[1]


def test_a_single_session_is_shown_without_an_interval() -> None:
    result = World(factors(Multi=0.9), session_seconds=1000.0).run()
    row = json.loads(json.dumps(entries(result)["artifact"].to_json(), allow_nan=False))
    assert row["sessions"] == 1 and row["low"] is row["high"] is None
    assert measured(row).endswith("(one session)")
