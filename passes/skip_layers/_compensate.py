"""What takes the place of removed pieces: a map fitted in closed form to what they did on calibration data.

``linear`` fits ``y = x + x A + b`` by ridge regression, ``diagonal`` fits ``y = x * d + b`` per channel. Both
shrink towards identity, and the strength is chosen on tokens that were kept out of the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.padding import real_tokens
from optc.passbase import Context, Feeds
from optc.tap import tap

from ._sites import Site, masks_of

Array = np.ndarray[Any, Any]

RIDGE = (
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    1e-2,
    0.03,
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
)  # in units of the mean variance of a channel
HELD_OUT = 5  # every fifth sample judges


@dataclass(frozen=True)
class Stretch:
    """Removed pieces that follow each other: ``exit`` is to be predicted from ``entry``."""

    entry: str
    exit: str
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class Fit:
    """A map for one stretch.

    Attributes:
        weight: [d, d] for linear, [d] for diagonal: y = x @ weight + bias, or x * weight + bias.
        error: relative L2 error on held-out tokens.
        identity: the same without any map.
    """

    kind: str
    weight: Array
    bias: Array
    error: float
    identity: float


def stretches(sites: Sequence[Site]) -> list[Stretch]:
    """Joins neighbours; terms of a sum have no entry of their own and are left out."""
    found: list[Stretch] = []
    for site in sites:
        if site.term:
            continue
        if found and found[-1].exit == site.entry:
            last = found.pop()
            found.append(Stretch(last.entry, site.exit, (*last.sites, site)))
        else:
            found.append(Stretch(site.entry, site.exit, (site,)))
    return found


@dataclass
class Moments:
    """Sums over tokens from which every fit and its error follow; memory is d x d."""

    tokens: int = 0
    gram: Array = field(default_factory=lambda: np.zeros((0, 0)))  # [d+1, d+1] of (x, 1)
    cross: Array = field(default_factory=lambda: np.zeros((0, 0)))  # [d+1, d] of (x, 1) with y - x
    change: Array = field(default_factory=lambda: np.zeros(0))  # [d] sums of (y - x)^2
    target: float = 0.0  # sum of y^2

    def add(self, x: Array, y: Array) -> None:
        """Adds tokens [n, d]."""
        x64, residual = x.astype(np.float64), y.astype(np.float64) - x
        ones = np.concatenate([x64, np.ones((len(x64), 1))], axis=1)
        if not self.tokens:
            width = x.shape[1]
            self.gram, self.cross = np.zeros((width + 1, width + 1)), np.zeros((width + 1, width))
            self.change = np.zeros(width)
        self.tokens += len(x64)
        self.gram += ones.T @ ones
        self.cross += ones.T @ residual
        self.change += (residual * residual).sum(axis=0)
        self.target += float((y.astype(np.float64) ** 2).sum())

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.tokens + other.tokens,
            self.gram + other.gram,
            self.cross + other.cross,
            self.change + other.change,
            self.target + other.target,
        )

    def error(self, solution: Array) -> float:
        """Relative L2 error of predicting y by x + (x, 1) @ solution; solution is [d+1, d]."""
        squared = self.change.sum() - 2 * (solution * self.cross).sum()
        squared += (solution * (self.gram @ solution)).sum()
        return float(np.sqrt(max(squared, 0.0) / self.target)) if self.target else 0.0


def measure(
    before: ir.Model, after: ir.Model, stretch: Stretch, entry: str, samples: Sequence[Feeds], ctx: Context
) -> tuple[Moments, Moments]:
    """Moments of the tokens to fit on and of those to judge on.

    Args:
        before: the model whose exit is the target.
        after: the model that the map goes into, with what was removed before this stretch already gone.
        entry: what the stretch's entry is called in ``after``.
    """
    fit, held_out = Moments(), Moments()
    wanted = tap(before, [stretch.exit], samples, threads=ctx.threads)
    given = tap(after, [entry], samples, threads=ctx.threads)
    single = len(samples) < 2
    masks = masks_of(stretch.sites)
    for number, (feeds, y, x) in enumerate(zip(samples, wanted, given, strict=True)):
        target, source = y[stretch.exit], x[entry]
        if (real := real_tokens(masks, feeds, source.shape[:-1])) is not None:
            target, source = target[real], source[real]
        rows, goals = source.reshape(-1, source.shape[-1]), target.reshape(-1, target.shape[-1])
        if single:  # of one sample every fifth token judges
            judge = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
            fit.add(rows[~judge], goals[~judge])
            held_out.add(rows[judge], goals[judge])
        else:
            (held_out if number % HELD_OUT == min(HELD_OUT, len(samples)) - 1 else fit).add(rows, goals)
    return fit, held_out


def fit_linear(fit: Moments, held_out: Moments) -> Fit:
    """Ridge regression of the change; the strength that held-out tokens prefer, then all are fitted."""
    by_strength = {strength: held_out.error(_ridge(fit, strength)) for strength in RIDGE}
    best = min(RIDGE, key=lambda strength: by_strength[strength])
    solution = _ridge(fit + held_out, best)
    width = solution.shape[1]
    weight = np.eye(width) + solution[:-1]
    return Fit("linear", weight, solution[-1], by_strength[best], held_out.error(np.zeros_like(solution)))


def fit_diagonal(fit: Moments, held_out: Moments) -> Fit:
    """Per channel a slope and an intercept, by least squares."""
    judged = held_out.error(_as_matrix(*_slopes(fit)))
    slope, intercept = _slopes(fit + held_out)
    identity = held_out.error(np.zeros_like(fit.cross))
    return Fit("diagonal", 1.0 + slope, intercept, judged, identity)


def _ridge(moments: Moments, strength: float) -> Array:
    mean = moments.gram[:-1, -1] / moments.tokens
    variance = np.diag(moments.gram)[:-1] / moments.tokens - mean**2
    penalty = np.full(len(moments.gram), strength * moments.tokens * max(float(variance.mean()), 1e-12))
    penalty[-1] = 1e-9 * moments.tokens  # the intercept is free
    solution: Array = np.linalg.solve(moments.gram + np.diag(penalty), moments.cross)
    return solution


def _slopes(moments: Moments) -> tuple[Array, Array]:
    tokens = moments.tokens
    x_mean, r_mean = moments.gram[:-1, -1] / tokens, moments.cross[-1] / tokens
    variance = np.diag(moments.gram)[:-1] / tokens - x_mean**2
    covariance = np.diag(moments.cross[:-1]) / tokens - x_mean * r_mean
    floor = 1e-9 * max(float(variance.mean()), 1e-12)
    slope = covariance / np.maximum(variance, floor)
    return slope, r_mean - slope * x_mean


def _as_matrix(slope: Array, intercept: Array) -> Array:
    return np.concatenate([np.diag(slope), intercept[None]])
