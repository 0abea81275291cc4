"""What the options of `quantize` ask for, once they are known to have a meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass

from optc.errors import UserError

from . import weight_only
from .choice.products import GROUP as FAST_GROUP


@dataclass(frozen=True)
class Asked:
    """The options, of one scheme.

    Attributes:
        scheme: int8-dynamic, int8-static, int8-weight or int4-weight.
        granularity: channel, tensor or group.
        group: rows that share a scale; 0: not given.
        exclude: what the names of sites that stay in float contain; None: all may be quantized.
        calibrate: how ranges of int8-static are set.
        method: how weights alone are rounded.
        smooths: whether outliers of inputs move into weights.
        alpha: SmoothQuant's exponent; None: chosen for each input.
        bias_correct: whether biases take up the mean error.
        room: how many times as far ranges of int8-static reach as samples suggest.
    """

    scheme: str
    granularity: str
    group: int
    exclude: re.Pattern[str] | None
    calibrate: str
    method: str
    smooths: bool
    alpha: float | None
    bias_correct: bool
    room: float = 1.0

    @property
    def per_channel(self) -> bool:
        """One scale per output channel of a weight; groups of rows are for weights alone."""
        return self.granularity != "tensor"

    @property
    def rows(self) -> int:
        """Of a weight alone, that share a scale; 0: each matrix has its own number."""
        return self.group or (0 if self.granularity == "group" else weight_only.GROUP)

    @property
    def fast_rows(self) -> int:
        """The same where weights are in blocks because that is faster."""
        return self.group or FAST_GROUP

    @property
    def bits(self) -> int:
        """Of weights alone."""
        return 4 if self.scheme == "int4-weight" else 8


def pattern(exclude: str) -> re.Pattern[str] | None:
    """The option ``exclude``; None where it is empty.

    Raises:
        UserError: it is no regular expression.
    """
    if not exclude:
        return None
    try:
        return re.compile(exclude)
    except re.error as error:
        raise UserError(
            f"{exclude!r} is not a regular expression: {error}", where="option exclude of quantize"
        ) from None


def exponent(smooth: str) -> float | None:
    """The option ``smooth`` where it is a number; None where it is a word.

    Raises:
        UserError: it is neither.
    """
    if smooth in ("auto", "none"):
        return None
    try:
        alpha = float(smooth)
    except ValueError:
        alpha = -1.0
    if not 0.0 <= alpha <= 1.0:
        raise UserError(
            f"smooth is auto, none or a number from 0 to 1, not {smooth!r}",
            where="option smooth of quantize",
        )
    return alpha
