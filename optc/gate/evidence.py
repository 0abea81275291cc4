"""What has been measured so far, and the ratios that follow from it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from optc.gate.contest import Candidate, Measure, Sample
from optc.measure import Ratio, over_sessions

# With this many sessions the interval hardly narrows any more.
MAX_SESSIONS = 7
ENOUGH = 3  # to change something with, where they agree
ENOUGH_TO_DROP = 2  # to give a challenger up with

# A gain below this is not worth more sessions: an interval that ends there is decided.
_ALIKE = 0.01


class Evidence:
    """Samples of pairs of candidates; several measurements of one pair are pooled.

    Args:
        measure: opens fresh sessions of a reference and some challengers, and times them.
        out_of_time: whether the seconds of the current phase are spent.
        group_size: how many challengers one measurement takes.
    """

    def __init__(self, measure: Measure, out_of_time: Callable[[], bool], group_size: int) -> None:
        self._measure, self._out_of_time, self._group_size = measure, out_of_time, group_size
        self._samples: dict[tuple[Candidate, Candidate], list[dict[str, Sample]]] = defaultdict(list)

    def gather(
        self,
        reference: Candidate,
        challengers: Sequence[Candidate],
        *,
        enough: int = ENOUGH,
        enough_to_drop: int = ENOUGH_TO_DROP,
        always: int = 0,
    ) -> None:
        """Measures until every challenger is decided or time is out.

        After one session of each the most promising come first: only a proven gain changes a decision, so
        when time is short it is spent where one may be found.

        Args:
            enough: sessions that may prove a challenger faster.
            enough_to_drop: sessions that may show that it is not.
            always: sessions to take even without time.
        """
        while True:
            waiting = [c for c in challengers if not self._decided(reference, c, enough, enough_to_drop)]
            if not waiting:
                return
            if self._out_of_time() and min(self.sessions(reference, c) for c in waiting) >= always:
                return
            waiting.sort(key=lambda c: self._promise(reference, c), reverse=True)
            group = waiting[: self._group_size]
            for challenger, by_shape in self._measure(reference, group).items():
                self._samples[reference, challenger].append(dict(by_shape))

    def sessions(self, reference: Candidate, challenger: Candidate) -> int:
        """How many sessions of the pair have been measured."""
        return len(self._samples[reference, challenger])

    def pooled(self, reference: Candidate, challenger: Candidate) -> Ratio | None:
        """Time of the reference over time of the challenger: geometric mean over the shapes."""
        samples = self._samples[reference, challenger]
        if not samples:
            return None
        return over_sessions([float(np.mean([s.log_ratio for s in found.values()])) for found in samples])

    def by_shape(self, reference: Candidate, challenger: Candidate) -> dict[str, Ratio]:
        """The same ratio of each shape."""
        samples = self._samples[reference, challenger]
        shapes = samples[0] if samples else {}
        return {shape: over_sessions([found[shape].log_ratio for found in samples]) for shape in shapes}

    def seconds(self, reference: Candidate, challenger: Candidate) -> dict[str, tuple[float, float]]:
        """Shape -> seconds per call of the challenger and of the reference, median over the sessions."""
        samples = self._samples[reference, challenger]
        return {
            shape: (
                float(np.median([found[shape].challenger for found in samples])),
                float(np.median([found[shape].reference for found in samples])),
            )
            for shape in (samples[0] if samples else {})
        }

    def _promise(self, reference: Candidate, challenger: Candidate) -> float:
        found = self.pooled(reference, challenger)
        return math.inf if found is None else found.ratio

    def _decided(self, reference: Candidate, challenger: Candidate, enough: int, drop: int) -> bool:
        count = self.sessions(reference, challenger)
        found = self.pooled(reference, challenger)
        if found is None or count >= MAX_SESSIONS:
            return found is not None
        if count >= enough and found.low > 1:
            return True
        return count >= drop and found.high < 1 + _ALIKE
