"""Int8 codes of the weights of dynamic products: a grid per output channel, from its smallest to its largest.

The largest of a few hundred weights is farther from zero than the smallest about as often as not; a grid with
a zero point of its own takes both ends as they are, and its steps are 5 to 6% finer for that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from optc import match

from .static.grid import LEAST
from .static.sites import Site


@dataclass(frozen=True)
class Lattice:
    """Where the numbers of each column lie: ``(code - zero) * scale`` for codes from ``-limit - 1``.

    Attributes:
        scales: float32, [N] or [] for one in all.
        zeros: int8, of the same shape.
        limit: the largest code.
    """

    scales: np.ndarray
    zeros: np.ndarray
    limit: int

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """The nearest codes of numbers [..., N], in float32."""
        rounded = np.rint(numbers / self.scales) + self.zeros
        return np.asarray(np.clip(rounded, -self.limit - 1, self.limit))

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """What codes [..., N] stand for, float32."""
        return np.asarray((codes - self.zeros.astype(np.float32)) * self.scales, np.float32)


@dataclass(frozen=True)
class Codes:
    """A rounded matrix: int8 [K, N] and where its columns lie."""

    array: np.ndarray
    lattice: Lattice

    def matrix(self) -> np.ndarray:
        """float32 [K, N]."""
        return self.lattice.numbers(self.array.astype(np.float32))


@dataclass
class Rounding:
    """The codes of weights, each made once: to nearest, unless better ones are known.

    Attributes:
        per_channel: one scale per output channel instead of one per matrix.
        limit: the largest code.
    """

    per_channel: bool
    limit: int
    _known: dict[tuple[ir.Value, int], Codes] = field(default_factory=dict)

    def of(self, site: Site) -> Codes:
        """The codes of the weight of a site, [K, N] also where it is stored the other way round."""
        key = (site.weight, site.channels)
        if key not in self._known:
            weights = matrix(site)
            found = lattice(weights, per_channel=self.per_channel, limit=self.limit)
            self._known[key] = Codes(found.codes(weights).astype(np.int8), found)
        return self._known[key]

    def take(self, site: Site, codes: np.ndarray, found: Lattice) -> None:
        """Codes for the weight of a site that are better than the nearest."""
        self._known[site.weight, site.channels] = Codes(codes.astype(np.int8), found)


def matrix(site: Site) -> np.ndarray:
    """The weight of a product as float32 [K, N]."""
    weight = match.constant(site.weight)
    assert weight is not None
    return np.asarray(weight.T if site.channels == 0 else weight, np.float32)


def lattice(weights: np.ndarray, *, per_channel: bool, limit: int) -> Lattice:
    """The grids of a matrix [K, N]; zero, which padding and pruning leave, is on each of them."""
    axis = 0 if per_channel else None
    low = weights.min(axis=axis, initial=0.0).astype(np.float64)
    high = weights.max(axis=axis, initial=0.0).astype(np.float64)
    scales = np.maximum((high - low) / (2 * limit + 1), LEAST).astype(np.float32)
    zeros = np.clip(np.rint(-limit - 1 - low / scales), -limit - 1, limit)
    return Lattice(scales, zeros.astype(np.int8), limit)
