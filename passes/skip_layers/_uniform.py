"""Evenly spaced survivors, without data (Unified Layer Skipping, arXiv 2404.06954)."""

from __future__ import annotations

from collections.abc import Sequence

from ._problem import Choice, Problem
from ._sites import Site


def choose(problem: Problem) -> Choice:
    """Keeps the ends of every stream and evenly spaced pieces between them.

    Several streams (an encoder and a decoder) lose pieces in proportion to their number of candidates.
    """
    removed: list[Site] = []
    streams = list(dict.fromkeys(site.stream for site in problem.candidates))
    members = [[site for site in problem.candidates if site.stream == stream] for stream in streams]
    for sites, count in zip(members, _shares([len(each) for each in members], problem.count), strict=True):
        kept = spread(len(sites), len(sites) - count)
        removed += [site for position, site in enumerate(sites) if position not in kept]
    return Choice.of(problem, removed, {})


def spread(total: int, kept: int) -> set[int]:
    """``kept`` of the positions 0..total-1, as evenly as whole numbers allow and symmetric."""
    return {int((2 * number + 1) * total / (2 * kept)) for number in range(kept)}


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Splits a count in proportion to sizes: largest remainders get what rounding leaves."""
    total = sum(sizes)
    exact = [count * size / total for size in sizes]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares
