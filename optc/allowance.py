"""How large an error lossy passes may make, and how it is held on data that nobody has seen yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optc.difference import Difference
from optc.holdout import Unseen

DEFAULT_MAX_ERROR = 0.1  # of the levels that may lose accuracy
LOSSY_LEVEL = 2  # the first of them

# Passes of a level are held to this part of what is allowed where no data was kept from calibration: on other
# data the error comes out larger. Seen with smoothing fitted to one example: 0.023 there and 0.028 on twenty
# other inputs (GPT-2), 0.0070 and 0.0109 (a small MLP), 0.046 and 0.074 (a Qwen3).
_KEPT_FREE = 0.7

_LESS = 0.85  # of what would have been just right, for a pass that is run again


@dataclass(frozen=True)
class Allowance:
    """What the user allows.

    A level promises to stay within ``max_error`` on data of the same kind, so it keeps a margin, and undoes
    what it cannot judge. Passes that the user named are held to the number itself.

    Attributes:
        max_error: the largest relative L2 error, or None.
        chosen: the passes were chosen by a level, not named by the user.
    """

    max_error: float | None = None
    chosen: bool = False

    @classmethod
    def of_level(cls, level: int, max_error: float | None, *, has_metric: bool) -> Allowance:
        """That of a level; a metric is a limit of its own and needs no other."""
        if max_error is None and level >= LOSSY_LEVEL and not has_metric:
            max_error = DEFAULT_MAX_ERROR
        return cls(max_error, chosen=True)

    def exceeded(self, error: Difference, unseen: Unseen | None) -> str | None:
        """Why the error is not allowed."""
        if self.max_error is None:
            return None
        if error.reason is not None and not error.output:  # no output in float, and what there is differs
            return self.unjudged(f"{error.reason}; a metric (--metric) can judge it")
        if error.reason is not None and math.isinf(error.rel_l2):
            return f"the outputs cannot be compared: {error.reason}"
        if not error.rel_l2 <= self.max_error:
            return f"its error {error.rel_l2:.3g} is above the allowed {self.max_error:.3g}"
        if unseen is not None and not unseen.bound <= self.max_error:
            return (
                f"its error on {unseen.samples} samples that calibration did not see, {unseen.rel_l2:.3g} "
                f"(up to {unseen.bound:.3g}), is not safely below the allowed {self.max_error:.3g}"
            )
        if unseen is None and self.chosen and not error.rel_l2 <= _KEPT_FREE * self.max_error:
            return (
                f"its error {error.rel_l2:.3g} on the data at hand is too near to the allowed "
                f"{self.max_error:.3g} to hold on other data"
            )
        return None

    def less(self, told: float, error: Mapping[str, Any]) -> float | None:
        """What to allow a pass that was allowed ``told`` and made this error, for the error to be allowed.

        Args:
            error: as the report has it.
        """
        unseen = error.get("unseen")
        found = max(error.get("rel_l2", math.inf), unseen["bound"] if unseen else 0.0)
        if self.max_error is None or not found < math.inf:
            return None
        limit = self.max_error if unseen or not self.chosen else _KEPT_FREE * self.max_error
        return _LESS * told * limit / found if found > limit else None

    def unjudged(self, reason: str) -> str | None:
        """Why a pass whose error cannot be taken is not allowed."""
        if self.chosen and self.max_error is not None:
            return f"its error cannot be taken: {reason}"
        return None
