"""Inputs a little larger than all that calibration saw.

Ranges that are fixed cut off what lies beyond them, and what that costs has no bound; samples that the ranges
were taken from never show it. So many are counted beyond as may be there without any showing among ``n``, and
they lie up to as far beyond as samples that differ so much may. Pixels are stretched beyond white too: what
lies inside a network has no such end, and grows with other images as it does with larger numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optc import student
from optc.passbase import Feeds

_LEAST = 1.1  # times a sample
_BY_CHANCE = 1.5  # at most, where samples may differ that much and did not show it
_SEEN = 2.5  # at most, where they did
_UNKNOWN = 1.25  # of a single batch, which does not tell how batches differ
_UNSEEN = 1 / 6  # how probable it is that no sample shows as many as there are, at most
_ALONE = 2.5  # of one or two rows in all: they tell nearly nothing


@dataclass(frozen=True)
class Stretched:
    """Samples stretched by as much as samples differ in size, and their share of the error.

    Attributes:
        samples: those of the largest inputs, all larger than any sample; none where no input is a float.
        share: of samples beyond all that were seen, at most: more would have shown among so many.
    """

    samples: Sequence[Feeds]
    share: float

    def with_those_beyond(self, error: float, beyond: float, weight: float = 1.0) -> float:
        """The error that data has to which samples like these belong, from that of all others.

        Args:
            weight: the squares of what the model answers to one of these, over those of a usual sample; a
                pooled error counts samples by that.
        """
        share = self.share * weight / (1 - self.share + self.share * weight)
        return math.sqrt(error**2 + max(beyond**2 - error**2, 0.0) * share)


def stretched(samples: Sequence[Feeds], seen: int, most: int, *, further: int = 0) -> Stretched:
    """The ``most`` largest of the samples, stretched until they lie beyond all of them, each a bit further.

    Args:
        samples: some of those that calibration sees.
        seen: how many it sees in all.
        further: how many times all go as far again first.
    """
    names = [name for name, value in samples[0].items() if _is_float(value)] if len(samples) else []
    sizes = {name: [float(np.linalg.norm(feeds[name])) for feeds in samples] for name in names}
    rows = {name: sum(len(np.atleast_1d(feeds[name])) for feeds in samples) for name in names}
    factors = {name: _factor(found, rows[name]) for name, found in sizes.items()}
    order = np.argsort([-sum(of_one) for of_one in zip(*sizes.values(), strict=True)], kind="stable")
    made = list[Feeds]()
    for number, index in enumerate(order[:most]):
        part = 1 - number / min(most, len(order))  # the largest sample goes all the way
        ends = {name: max(sizes[name]) * factors[name] ** (further + part) for name in names}
        scaled = {
            name: _scaled(samples[index][name], ends[name] / (sizes[name][index] or 1.0)) for name in names
        }
        made.append({**samples[index], **scaled})
    return Stretched(made, 1 - _UNSEEN ** (1 / max(seen, 1)))


def _is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 0


def _factor(sizes: Sequence[float], rows: int) -> float:
    """One standard deviation of the logarithm of the size, up to a point as large as so few samples allow."""
    if rows <= 2:
        return _ALONE
    positive = [size for size in sizes if 0.0 < size < math.inf]
    freedom = len(positive) - 1
    if freedom < 1:
        return _UNKNOWN
    found = float(np.std(np.log(positive), ddof=1))
    allowed = found * student.largest_deviation(freedom)
    seen, by_chance = (math.exp(min(deviation, 1.0)) for deviation in (found, allowed))
    return max(min(seen, _SEEN), min(by_chance, _BY_CHANCE), _LEAST)


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(array * factor, array.dtype)
