"""Block influence: what hardly turns the hidden state is removed first (ShortGPT, arXiv 2403.03853)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optc.analysis.padding import real_tokens
from optc.tap import tap

from ._problem import Choice, Problem
from ._remove import without
from ._sites import Site, masks_of


def choose(problem: Problem) -> Choice:
    """Removes the piece of least influence, scores what is left again, and so on."""
    chosen: list[Site] = []
    scores: dict[str, float] = {}
    for _ in problem.ctx.progress(range(problem.count), "block influence"):
        found = influences(problem, chosen)
        scores = {**found, **{site.label: scores[site.label] for site in chosen}}
        left = [site for site in problem.candidates if site not in chosen]
        chosen.append(min(left, key=lambda site: found[site.label]))
    return Choice.of(problem, chosen, scores)


def influences(problem: Problem, removed: Sequence[Site]) -> dict[str, float]:
    """Per candidate that is left: 1 - the mean cosine over tokens of the state before and after it.

    A vector of zeros has no direction: its cosine counts as 0.5.
    """
    left = [site for site in problem.candidates if site not in removed]
    ordered = [site for site in problem.sites if site in removed]
    model = without(problem.model, ordered)
    alias = _aliases(ordered)
    names = {site: (_alias(alias, site.entry), site.exit) for site in left}
    total = dict.fromkeys(left, 0.0)
    count = dict.fromkeys(left, 0)
    wanted = [name for pair in names.values() for name in pair]
    masks = masks_of(problem.sites)
    runs = tap(model, wanted, problem.samples, threads=problem.ctx.threads)
    for feeds, values in zip(problem.samples, runs, strict=True):
        for site, (entry, exit) in names.items():
            before, after = values[entry], values[exit]
            if site.term:  # the branch alone: the state after it is the sum
                after = before + after
            cosines = token_cosines(before, after)
            if (real := real_tokens(masks, feeds, before.shape[:-1])) is not None:
                cosines = cosines[real]
            total[site] += float(cosines.sum())
            count[site] += cosines.size
    return {site.label: 1.0 - total[site] / max(count[site], 1) for site in left}


def token_cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines between the vectors on the last axis, from -1 to 1 also where rounding would leave that."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = (a * b).sum(axis=-1)
    return np.where(norms > 0, np.clip(products / np.where(norms > 0, norms, 1.0), -1.0, 1.0), 0.5)


def _aliases(removed: Sequence[Site]) -> dict[str, str]:
    """After removal what was called exit is what was called entry."""
    return {site.exit: site.entry for site in removed if not site.term}


def _alias(alias: dict[str, str], name: str) -> str:
    while name in alias:
        name = alias[name]
    return name
