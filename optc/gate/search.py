"""The search of the gate: start with everything on, take away what costs time, hold the rest against plain.

Every family is judged inside the artifact as it is then: with it over without it. When several look bad,
the worst is undone first and the others are judged again, because two families that are each good alone can
be bad together, and then one of them has to go, not both. Whatever was changed, all others are judged again
in the new surroundings: one that paid only beside the family that is gone goes too, and one that was undone
may come back. Last, every family alone and none at all are tried, which finds what no single step leads to.
The candidates of a step are as many as the families, not their combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from optc.gate.contest import PLAIN, Candidate, Measure, Samples, candidate
from optc.gate.decisions import INLINE, Decisions, Entry, Families, GateResult
from optc.gate.evidence import Evidence
from optc.gate.lossy import inverse
from optc.measure import Clock, Ratio

# Of the time budget: for choosing among the families. The rest is for the artifact against plain.
_CHOOSING = 0.6

# Sessions of the artifact against plain: the promise is about every shape, not about their mean alone.
_CONFIRMING = 5

Progress = Callable[[str, float], None]  # what is measured, fraction of the budget spent


@dataclass(frozen=True)
class _Change:
    """Some families set to other choices."""

    title: str
    choices: Mapping[str, str]
    undoes: str | None = None  # the one family that it takes away

    def of(self, current: Decisions) -> dict[str, str]:
        return {**current, **self.choices}


class Search:
    """Chooses one lowering or "inline" for each family.

    Args:
        families: the families in the model, with their lowerings.
        measure: times candidates in fresh sessions.
        fingerprint: equal for two candidates that are the same program: those are measured once.
        seconds: time budget.
        group_size: how many challengers `measure` should be given at once.
    """

    def __init__(
        self,
        families: Families,
        measure: Measure,
        *,
        fingerprint: Callable[[Candidate], object],
        seconds: float,
        clock: Clock,
        group_size: int = 1,
        progress: Progress = lambda what, fraction: None,
    ) -> None:
        self._families, self._fingerprint, self._progress = families, fingerprint, progress
        self._started, self._seconds, self._clock = clock(), seconds, clock
        self._until = seconds * _CHOOSING
        self._contest_seconds = 0.0
        self._measure = measure
        self._evidence = Evidence(self._measured, self._out_of_time, group_size)
        self._ledger: dict[str, Entry] = {}

    def run(self) -> GateResult:
        """Chooses, then holds the choice against the captured model."""
        current = self._choose({family: names[0] for family, names in self._families.items()})
        self._until = self._seconds
        return self._confirm(current)

    def _choose(self, current: dict[str, str]) -> dict[str, str]:
        been = {self._fingerprint(candidate(current))}
        suspects: list[_Change] = []
        while True:
            better = self._first_better(
                current, (suspects, self._one_by_one(current), self._alone(current)), been
            )
            if not better:
                return current
            best = max(better, key=lambda change: self._gain(current, change))
            current = best.of(current)
            been.add(self._fingerprint(candidate(current)))
            suspects = [change for change in better if not change.choices.keys() & best.choices.keys()]
            if self._out_of_time():
                return current

    def _first_better(
        self, current: Decisions, steps: Iterable[Iterable[_Change]], been: Set[object]
    ) -> list[_Change]:
        """The proven gains of the first step that has any."""
        tried = set(been)
        for changes in steps:
            if better := self._better(current, self._new(current, changes, tried)):
                return better
            if self._out_of_time():
                break
        return []

    def _one_by_one(self, current: Decisions) -> Iterator[_Change]:
        """Every other choice of every family."""
        for family in self._families:
            if current[family] != INLINE:
                yield _Change(family, {family: INLINE}, undoes=family)
        for family, names in self._families.items():
            for name in names:
                if current[family] != name:
                    yield _Change(f"{family}: {name}", {family: name})

    def _alone(self, current: Decisions) -> Iterator[_Change]:
        """No family at all, and each of those that are on without the others."""
        none = dict.fromkeys(self._families, INLINE)
        yield _Change("no family", none)
        for family, choice in current.items():
            if choice != INLINE:
                yield _Change(f"{family} alone", {**none, family: choice})

    def _new(self, current: Decisions, changes: Iterable[_Change], tried: set[object]) -> list[_Change]:
        """Those that make a program that was not tried; it is now."""
        found = []
        for change in changes:
            made = self._fingerprint(candidate(change.of(current)))
            if made not in tried:
                tried.add(made)
                found.append(change)
        return found

    def _better(self, current: Decisions, changes: list[_Change]) -> list[_Change]:
        """Measures the changes in the artifact as it is, and gives those that are proven faster."""
        if not changes:
            return []
        self._say("families")
        self._evidence.gather(candidate(current), [candidate(change.of(current)) for change in changes])
        better = [change for change in changes if self._is_proven(current, change)]
        self._note(current, changes, better)
        return better

    def _is_proven(self, current: Decisions, change: _Change) -> bool:
        """The rule for exact families: undone when the interval of with over without lies above 1."""
        found = self._evidence.pooled(candidate(current), candidate(change.of(current)))
        return found is not None and found.low > 1.0

    def _gain(self, current: Decisions, change: _Change) -> float:
        found = self._evidence.pooled(candidate(current), candidate(change.of(current)))
        return 0.0 if found is None else found.ratio

    def _note(self, current: Decisions, changes: Sequence[_Change], better: Sequence[_Change]) -> None:
        best = max(better, key=lambda change: self._gain(current, change), default=None)
        for change in changes:
            if change == best:
                verdict = "undone" if change.undoes else "chosen"
            else:
                verdict = "kept" if change.undoes else "not chosen"
            self._ledger[change.title] = self._entry(current, change, verdict)

    def _entry(self, current: Decisions, change: _Change, verdict: str) -> Entry:
        """A family's figures are with over without it; those of an alternative, it over the current one."""
        pair = candidate(current), candidate(change.of(current))
        pooled = self._evidence.pooled(*pair)
        if pooled is None:
            return Entry(change.title, verdict, "not measured: the time budget was spent")
        shapes = self._evidence.by_shape(*pair)
        if change.undoes is None:
            pooled, shapes = inverse(pooled), {name: inverse(found) for name, found in shapes.items()}
        return Entry.of(change.title, verdict, reason(pooled), pooled, shapes)

    def _confirm(self, current: dict[str, str]) -> GateResult:
        """Holds the artifact against plain; while it loses, takes the most suspect family out."""
        if self._fingerprint(candidate(current)) == self._fingerprint(PLAIN):
            self._ledger["artifact"] = Entry("artifact", "kept", "it is the captured model")
            return self._result(current)
        for trial in self._trials(current):
            self._say("artifact against the plain export")
            which = candidate(trial)
            self._evidence.gather(which, [PLAIN], enough=_CONFIRMING, enough_to_drop=_CONFIRMING, always=1)
            pooled, shapes = self._evidence.pooled(which, PLAIN), self._evidence.by_shape(which, PLAIN)
            assert pooled is not None
            lost = _loses(pooled, shapes)
            title = "artifact" if trial == current else f"artifact without {_difference(current, trial)}"
            verdict = "kept" if lost is None else "undone"
            self._ledger[title] = Entry.of(title, verdict, lost or reason(pooled), pooled, shapes)
            if lost is None:
                return self._result(trial)
            if self._out_of_time():
                break
        return self._result(dict.fromkeys(current, INLINE), keep_plain=True)

    def _trials(self, current: dict[str, str]) -> Iterator[dict[str, str]]:
        """The artifact, then with one more family undone each time, the worst at any shape first."""
        yield current
        on = [family for family, choice in current.items() if choice != INLINE]
        on.sort(key=self._worst_ratio, reverse=True)
        trial, seen = current, {self._fingerprint(candidate(current)), self._fingerprint(PLAIN)}
        for family in on:
            trial = {**trial, family: INLINE}
            if (print_ := self._fingerprint(candidate(trial))) not in seen:
                seen.add(print_)
                yield trial

    def _worst_ratio(self, family: str) -> float:
        entry = self._ledger.get(family)
        return 1.0 if entry is None else max(entry.shapes.values(), default=1.0)

    def _result(self, decisions: Decisions, *, keep_plain: bool = False) -> GateResult:
        ledger = tuple(self._ledger.values())
        if keep_plain:
            return GateResult(decisions, ledger, keep_plain=True)
        which = candidate(decisions)
        return GateResult(
            decisions,
            ledger,
            final=self._evidence.pooled(which, PLAIN),
            final_by_shape=self._evidence.by_shape(which, PLAIN),
            seconds=self._evidence.seconds(which, PLAIN),
        )

    def _measured(self, reference: Candidate, challengers: Sequence[Candidate]) -> Samples:
        started = self._clock()
        samples = self._measure(reference, challengers)
        self._contest_seconds = self._clock() - started
        return samples

    def _out_of_time(self) -> bool:
        """Whether another contest like the last one would go beyond the budget."""
        return self._clock() - self._started + self._contest_seconds > self._until

    def _say(self, what: str) -> None:
        self._progress(what, min(1.0, (self._clock() - self._started) / self._seconds))


def _loses(pooled: Ratio, shapes: dict[str, Ratio]) -> str | None:
    """Why the artifact may not be kept: it is slower than plain somewhere, or faster nowhere."""
    slower = [name for name, found in shapes.items() if found.low > 1.0]
    if slower:
        worst = max(slower, key=lambda name: shapes[name].ratio)
        return f"slower than the plain export at {worst}"
    if pooled.ratio >= 1.0:
        return "not faster than the plain export"
    return None


def _difference(current: Decisions, trial: Decisions) -> str:
    return ", ".join(family for family in current if current[family] != trial[family])


def reason(found: Ratio) -> str:
    """What a ratio says, in words."""
    if found.low > 1.0:
        return "it costs time"
    if found.high < 1.0:
        return "it saves time"
    return "no difference beyond noise" if found.interval else "too few sessions to tell it from noise"
