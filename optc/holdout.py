"""Samples kept from calibration, so that errors are also taken on data that no pass has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from optc import student
from optc.difference import Comparison, difference
from optc.passbase import Feeds

# With fewer samples calibration needs them all. Of more, every fifth is kept back, up to this many.
_FEWEST, _EVERY, _MOST = 5, 5, 100


@dataclass(frozen=True)
class Unseen:
    """The error on data that calibration did not see.

    Attributes:
        rel_l2: pooled over the samples.
        bound: that and what a 95% interval adds to it; what other data of the same kind will hardly exceed.
        deviation: between the errors of single samples, those that calibration saw among them: of so few as
            are kept back the spread says little.
    """

    rel_l2: float
    bound: float
    samples: int
    deviation: float = 0.0


class Part(Sequence[Feeds]):
    """Some of the samples, read when they are asked for."""

    def __init__(self, samples: Sequence[Feeds], indices: Sequence[int]) -> None:
        self._samples, self._indices = samples, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Feeds: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feeds]: ...
    def __getitem__(self, index: int | slice) -> Feeds | Sequence[Feeds]:
        if isinstance(index, slice):
            return Part(self._samples, self._indices[index])
        return self._samples[self._indices[index]]


def split(samples: Sequence[Feeds]) -> tuple[Sequence[Feeds], frozenset[int]]:
    """What to calibrate on, and the indices of the samples that are kept back."""
    if len(samples) < _FEWEST:
        return samples, frozenset()
    step = max(_EVERY, math.ceil(len(samples) / _MOST))
    kept = range(step - 1, len(samples), step)
    return Part(samples, [i for i in range(len(samples)) if i not in kept]), frozenset(kept)


@dataclass
class Spread:
    """Collects the errors of single samples, and of those together that calibration did not see."""

    _pooled: Comparison = field(default_factory=Comparison)
    _single: list[float] = field(default_factory=list)
    _unseen: int = 0

    def add(self, expected: Mapping[str, Any], actual: Mapping[str, Any], *, unseen: bool = True) -> None:
        """Adds one sample."""
        self._single.append(difference(expected, actual).rel_l2)
        if unseen:
            self._pooled.add(expected, actual)
            self._unseen += 1

    def result(self) -> Unseen | None:
        """None without samples that calibration did not see."""
        if not self._unseen:
            return None
        pooled, every = self._pooled.result().rel_l2, len(self._single)
        deviation = float(np.std(self._single, ddof=1)) if every > 1 else 0.0
        margin = student.quantile(max(every - 1, 1)) * deviation / math.sqrt(self._unseen)
        return Unseen(pooled, pooled + margin, self._unseen, deviation)
