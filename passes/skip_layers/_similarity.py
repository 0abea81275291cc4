"""The run of neighbouring pieces over which the state turns least (arXiv 2403.17887)."""

from __future__ import annotations

import numpy as np

from optc.analysis.padding import real_tokens
from optc.errors import UserError
from optc.tap import tap

from ._influence import token_cosines
from ._problem import Choice, Problem
from ._sites import Site, masks_of


def choose(problem: Problem) -> Choice:
    """Removes the run of ``count`` neighbours with the least angle between what goes in and comes out."""
    runs = _runs(problem)
    if not runs:
        what = f"there are no {problem.count} neighbouring pieces to remove"
        raise UserError(what, where="skip-layers", hint="lower the count, or use method=influence")
    angles = np.zeros(len(runs))
    names = [name for run in runs for name in (run[0].entry, run[-1].exit)]
    masks = masks_of(problem.sites)
    taps = tap(problem.model, names, problem.samples, threads=problem.ctx.threads)
    for feeds, values in zip(problem.samples, taps, strict=True):
        for number, run in enumerate(runs):
            cosines = token_cosines(values[run[0].entry], values[run[-1].exit])
            if (real := real_tokens(masks, feeds, values[run[0].entry].shape[:-1])) is not None:
                cosines = cosines[real]
            angles[number] += float(np.arccos(cosines).mean() / np.pi)
    angles /= len(problem.samples)
    scores = {
        f"{run[0].label} to {run[-1].label}": float(angle) for run, angle in zip(runs, angles, strict=True)
    }
    return Choice.of(problem, runs[int(angles.argmin())], scores)


def _runs(problem: Problem) -> list[tuple[Site, ...]]:
    candidates = [site for site in problem.candidates if not site.term]
    runs = [
        tuple(candidates[start : start + problem.count])
        for start in range(len(candidates) - problem.count + 1)
    ]
    return [run for run in runs if all(a.exit == b.entry for a, b in zip(run, run[1:], strict=False))]
