"""Search for the set of pieces whose removal changes the answers least (after SWIFT, arXiv 2410.06916).

The objective needs no labels: how well the answers of the smaller model match. Random sets, and in between
the set that a Gaussian process over the sets tried so far finds most promising (upper confidence bound).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.metric import metric_of
from optc.oracle import Oracle, Skipped
from optc.passbase import Feeds

from ._problem import Choice, Problem
from ._remove import without
from ._sites import Site

Subset = tuple[int, ...]  # positions among the candidates, ascending

SAMPLES = 32  # more make the objective finer, and every trial as much slower
_RANDOM_FIRST = 8  # sets before the first guided one
_GUIDED_EVERY = 3
_PROPOSALS = 256  # sets that the guide ranks
_NOISE, _CURIOSITY = 1e-2, 2.5


def choose(problem: Problem) -> Choice:
    """Tries up to ``budget`` sets (all of them, if they are not more) and takes the best."""
    score = _objective(problem)
    tried: dict[Subset, float] = {}
    sets = _exhaustive(problem) or _guided(problem, tried)
    for _ in problem.ctx.progress(range(min(problem.budget, _number_of_sets(problem))), "layer search"):
        subset = next(sets, None)
        if subset is None:
            break
        tried[subset] = score(_sites(problem, subset))
    best = max(tried, key=lambda subset: tried[subset])
    listed = sorted(tried, key=lambda subset: -tried[subset])[:10]
    names = {subset: " + ".join(site.label for site in _sites(problem, subset)) for subset in listed}
    return Choice.of(problem, _sites(problem, best), {names[subset]: tried[subset] for subset in listed})


def matchness(model: ir.Model, oracle: Oracle) -> float:
    """Mean of top-1 agreement and cosine of the worst output, over the samples; 1 is the same answers."""
    found = oracle.compare(model)
    if isinstance(found, Skipped):
        raise RuntimeError(f"answers cannot be compared: {found.reason}")
    if found.reason is not None or not math.isfinite(found.cosine):
        return -1.0
    return 0.5 * (found.top1 + found.cosine)


def _objective(problem: Problem) -> Callable[[Sequence[Site]], float]:
    metric = problem.ctx.metric
    if metric is not None:

        def measured(sites: Sequence[Site]) -> float:
            return metric_of(metric, without(problem.model, sites), problem.ctx.threads)

        return measured
    oracle = Oracle(problem.model, _some(problem.samples))
    return lambda sites: matchness(without(problem.model, sites), oracle)


def _some(samples: Sequence[Feeds]) -> list[Feeds]:
    """At most SAMPLES of them, evenly spaced."""
    step = max(1, math.ceil(len(samples) / SAMPLES))
    return list(samples[::step])


def _sites(problem: Problem, subset: Subset) -> list[Site]:
    chosen = {problem.candidates[position] for position in subset}
    return [site for site in problem.sites if site in chosen]


def _number_of_sets(problem: Problem) -> int:
    return math.comb(len(problem.candidates), problem.count)


def _exhaustive(problem: Problem) -> Iterator[Subset] | None:
    if _number_of_sets(problem) > problem.budget:
        return None
    return combinations(range(len(problem.candidates)), problem.count)


def _guided(problem: Problem, tried: dict[Subset, float]) -> Iterator[Subset]:
    """New sets: random ones at first, then every third the one that the process expects most of."""
    rng = np.random.default_rng(problem.ctx.seed)
    size, count = len(problem.candidates), problem.count
    yield tuple(int(round(i)) for i in np.linspace(0, size - 1, count)) if count > 1 else (size // 2,)
    number = 1
    while len(tried) < _number_of_sets(problem):
        guided = number >= _RANDOM_FIRST and number % _GUIDED_EVERY == 0
        proposals = list(_proposals(rng, size, count, tried, guided=guided))
        if guided:
            yield proposals[int(expected(tried, proposals, size).argmax())]
        else:
            yield proposals[0]
        number += 1


def _proposals(
    rng: np.random.Generator, size: int, count: int, tried: dict[Subset, float], *, guided: bool
) -> Iterator[Subset]:
    """Untried sets; for the guide half of them differ from the best set in one piece."""
    best = max(tried, key=lambda subset: tried[subset]) if tried else None
    made = 0
    wanted = _PROPOSALS if guided else 1
    while made < wanted:
        if guided and best is not None and rng.random() < 0.5:
            outside = [i for i in range(size) if i not in best]
            swapped = {*best} - {int(rng.choice(best))} | {int(rng.choice(outside))}
            subset = tuple(sorted(swapped))
        else:
            subset = tuple(sorted(int(i) for i in rng.choice(size, count, replace=False)))
        made += 1
        if subset not in tried:
            yield subset
        elif made == wanted:
            wanted += 1  # there is an untried one, or the caller would have stopped


def expected(tried: dict[Subset, float], proposals: Sequence[Subset], size: int) -> np.ndarray[Any, Any]:
    """Upper confidence bounds of a Gaussian process with a kernel on the number of pieces that differ."""
    known, scores = _indicator(list(tried), size), np.array(list(tried.values()))
    mean, spread = scores.mean(), scores.std() or 1.0
    asked = _indicator(proposals, size)
    length = max(1.0, known.sum(axis=1).mean())
    gram = _kernel(known, known, length) + _NOISE * np.eye(len(known))
    cross = _kernel(asked, known, length)
    solved = np.linalg.solve(gram, np.column_stack([(scores - mean) / spread, cross.T]))
    variance = np.clip(1.0 - (cross * solved[:, 1:].T).sum(axis=1), 0.0, None)
    bounds: np.ndarray[Any, Any] = cross @ solved[:, 0] + _CURIOSITY * np.sqrt(variance)
    return bounds


def _indicator(subsets: Sequence[Subset], size: int) -> np.ndarray[Any, Any]:
    table = np.zeros((len(subsets), size))
    for row, subset in enumerate(subsets):
        table[row, list(subset)] = 1.0
    return table


def _kernel(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], length: float) -> np.ndarray[Any, Any]:
    differing = np.abs(a[:, None, :] - b[None, :, :]).sum(axis=2)
    kernel: np.ndarray[Any, Any] = np.exp(-differing / length)
    return kernel
