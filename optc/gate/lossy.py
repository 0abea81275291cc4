"""The rule for what costs accuracy: it has to be proven faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optc.gate.contest import Candidate
from optc.gate.decisions import Entry
from optc.gate.evidence import Evidence
from optc.measure import Ratio


@dataclass(frozen=True)
class Judgement:
    """What was measured of a pass that costs accuracy.

    Attributes:
        entry: time with it over time without it, and the verdict, ``kept`` or ``undone``.
        seconds: shape -> seconds per call without it and with it, median over the sessions.
    """

    entry: Entry
    seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def undone(self) -> str | None:
        """Why it is undone."""
        return self.entry.reason if self.entry.verdict == "undone" else None


def judgement(evidence: Evidence, before: Candidate, after: Candidate, what: str) -> Judgement:
    """What the measurements of ``before`` over ``after`` mean for the pass between them."""
    gain, shapes = evidence.pooled(before, after), evidence.by_shape(before, after)
    assert gain is not None
    refused = _why_not(gain, shapes)
    cost, costs = inverse(gain), {shape: inverse(found) for shape, found in shapes.items()}
    seconds = {shape: (b, a) for shape, (a, b) in evidence.seconds(before, after).items()}
    verdict = "kept" if refused is None else "undone"
    return Judgement(Entry.of(what, verdict, refused or f"faster: {times(gain)}", cost, costs), seconds)


def _why_not(gain: Ratio, shapes: Mapping[str, Ratio]) -> str | None:
    if gain.high < 1.0:
        return f"slower: {times(gain)}"
    for shape, found in shapes.items():
        if found.high < 1.0:
            return f"slower at {shape}: {times(found)}"
    return None if gain.low > 1.0 else f"not faster beyond noise: {times(gain)}"


def times(gain: Ratio) -> str:
    """A gain as people read it: how many times as fast, and the interval around that where there is one."""
    interval = "" if gain.interval is None else " ({:.2f} to {:.2f})".format(*gain.interval)
    return f"{gain.ratio:.2f}x{interval}"


def inverse(found: Ratio) -> Ratio:
    """The ratio the other way round."""
    low = 0.0 if found.high == float("inf") else 1 / found.high
    return Ratio(1 / found.ratio, low, 1 / found.low if found.low else float("inf"), found.count)
