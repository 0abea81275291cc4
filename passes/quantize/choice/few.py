"""What a draw of few samples may have missed.

In one draw of twenty, the largest of ``n`` samples is exceeded by a share of ``1 - 0.05^(1/n)`` of all data:
by 21% of it with 13 samples, 6% with 51, 1% with 256. So much of the error is that of samples that lie twice
as far beyond those seen as expected: a margin that is large with few samples, none where ranges cut nothing
off, and goes away with more samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from optc.passbase import Skip

_UNLUCKY = 0.05  # how probable a draw is that misses more
_MANY = 64  # samples, for a comparison
_TOLD = 0.95  # of the limit, or less, is told


@dataclass(frozen=True)
class Larger:
    """Errors of data with samples larger than all that were seen.

    Attributes:
        likely: with as many and as large ones as a usual draw misses.
        worst: where they lie twice as far beyond.
        seen: how many samples were seen.
    """

    likely: float
    worst: float
    seen: int

    @property
    def expected(self) -> float:
        """With room for a draw that missed more."""
        return self._with(self.seen)

    def told(self, limit: float | None) -> tuple[Skip, ...]:
        """For the report: what of the limit was left, where that room took much of it."""
        if limit is None or self.seen >= _MANY or self.held_to(limit, self.seen) > _TOLD * limit:
            return ()
        left, with_many = (f"{self.held_to(limit, seen):.3g}" for seen in (self.seen, _MANY))
        calibrated = "1 sample" if self.seen == 1 else f"{self.seen} samples"
        return (
            Skip(
                "max-error",
                f"{limit:.3g} is held to {left}, because other data may be larger than the {calibrated} that "
                f"calibration saw; {_MANY} would leave {with_many} of it",
            ),
        )

    def held_to(self, limit: float, seen: int) -> float:
        """What the room for such a draw leaves of a limit, had so many been seen."""
        return limit * self.likely / self._with(seen) if self.likely > 0.0 else limit

    def _with(self, seen: int) -> float:
        if self.worst == self.likely or not self.worst < math.inf:
            return self.worst
        share = 1 - _UNLUCKY ** (1 / max(seen, 1))
        return math.hypot(math.sqrt(1 - share) * self.likely, math.sqrt(share) * self.worst)
