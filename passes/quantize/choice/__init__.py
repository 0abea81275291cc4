"""Choice of sites: as much in low precision as the error allows, where it costs least.

First everything is quantized and held against what the user allows; mostly that is all. If it is too much,
the error of each site is taken, and a knapsack takes those that save most within the error. Errors of sites
together are not quite the sum of theirs alone, so what was chosen is held against the limit again, and chosen
anew with what was learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from optc.passbase import Context, Feeds, Report, Skip

from .judge import Found, Judge, Quick
from .knapsack import Option, assign
from .partly import Prepared
from .sensitivity import Group, sensitivities
from .wider import Held, widened
from .work import runs_for, work_of

__all__ = ["Scheme", "within"]

_ATTEMPTS = 4  # quantized models that are held against the limit, besides that with all sites
_SLACK = 0.95  # of what would just fit
_SMALLER = 0.7  # times what did not fit, less each time: the error may hardly fall with the number of sites
_HALVINGS = 12  # of the space between a budget that fits and one that does not
_UNUSED = 0.8  # of the limit: below, what is left may take in more sites
_LEAST_GAIN = 1e-9  # seconds, of a site that was not timed: it is taken where its error costs nothing
_FEWER_BITS = 2  # the place of that among the options of a group
_EVERY = "all sites"  # what is learned of the model in which all are quantized
_CUT_OFF = 0.02  # of the error to be expected, that samples beyond all others may add
_SAMPLES = 4  # that the error of single sites is taken on


@dataclass(frozen=True)
class Scheme:
    """What the choice needs to know of a way to quantize.

    Attributes:
        apply: quantizes a model in place, but for the sites that are given with the reason; some sites, the
            last argument, with fewer bits.
        sites: the names of the sites that it would quantize, in graph order.
        prepare: called once; gives models in which only some sites are quantized, if less carefully.
        gains: seconds that a site saves; empty: operations count.
        coarser: seconds that it saves beyond with fewer bits, where it does; only within a limit.
    """

    apply: Callable[[ir.Model, Mapping[str, str], Collection[str]], Report]
    sites: Callable[[ir.Model], Sequence[str]]
    prepare: Callable[[ir.Model], Prepared]
    gains: Mapping[str, float] = field(default_factory=dict)
    coarser: Mapping[str, float] = field(default_factory=dict)


def within(model: ir.Model, ctx: Context, scheme: Scheme, wider: Sequence[Scheme] = ()) -> Report:
    """Quantizes as many sites as ``max_error``, or the metric, allow, in place.

    Without a limit, or where no error can be taken, that is all of them.

    Args:
        wider: the same with more and more room in fixed ranges. It is taken where samples beyond all that
            were seen would add more to the error than coarser steps do.
    """
    samples = ctx.calibration or ctx.examples
    judge = Judge(model, samples, ctx)
    if not judge.judges:
        return scheme.apply(model, {}, ())
    ways = [scheme, *wider]
    known: tuple[int, Found] | None = ctx.learned.get(_EVERY)
    if known is None or judge.allows(known[1]):
        first = _every_site(
            model, judge, dict(enumerate(ways)) if known is None else {known[0]: ways[known[0]]}
        )
        if first.found is not None:
            known = ctx.learned[_EVERY] = first.way, first.found
        if known is None or judge.allows(known[1]):
            held = first if known is None else _with_room(first, known, model, judge, ways, ctx)
            _adopt(model, held.model)
            return held.report
    scheme, every, roomier = ways[known[0]], known[1], ways[known[0] + 1 :]
    groups, with_fewer_bits = ctx.once("errors of sites", lambda: _measured(model, ctx, scheme, samples))
    search = _Search(model, ctx, scheme, judge, samples, groups, with_fewer_bits, every)
    return search.run(roomier)


@dataclass(frozen=True)
class _Every:
    """A model in which all sites are quantized."""

    way: int
    model: ir.Model
    report: Report
    found: Found | None  # None where there was nothing to quantize


def _every_site(model: ir.Model, judge: Judge, ways: Mapping[int, Scheme]) -> _Every:
    """The one with the least error to be expected; the next is tried while ranges cut off what costs."""
    best: _Every | None = None
    for way, scheme in ways.items():
        trial = model.clone()
        report = scheme.apply(trial, {}, scheme.coarser)
        tried = _Every(way, trial, report, judge.of(trial) if report.changed else None)
        if best is None or _less(tried.found, best.found):
            best = tried
        if tried is not best or best.found is None or best.found.beyond <= _CUT_OFF * best.found.expected:
            break
    assert best is not None
    return best


def _with_room(
    first: _Every,
    known: tuple[int, Found],
    model: ir.Model,
    judge: Judge,
    ways: Sequence[Scheme],
    ctx: Context,
) -> Held:
    """The same with as much room in ranges as the limit leaves for samples far beyond all others."""

    def made(way: Scheme) -> Held:
        trial = model.clone()
        report = way.apply(trial, {}, way.coarser)
        return Held(trial, report, judge.of(trial))

    held = Held(first.model, first.report, known[1])
    return widened(held, ways[known[0] + 1 :], judge, ctx.max_error, made)


def _less(found: Found | None, other: Found | None) -> bool:
    return found is not None and other is not None and found.expected < other.expected


def _measured(
    model: ir.Model, ctx: Context, scheme: Scheme, samples: Sequence[Feeds]
) -> tuple[Sequence[Group], Sequence[float | None]]:
    """The errors of groups of sites, and those with fewer bits."""
    prepared, error = scheme.prepare(model), Quick(model, samples, _SAMPLES, ctx)
    groups = sensitivities(
        scheme.sites(model),
        lambda names: prepared(names, ()),
        error,
        runs=runs_for(model, samples, _SAMPLES),
        progress=ctx.progress,
    )
    with_fewer_bits: list[float | None] = [None] * len(groups)
    if scheme.coarser:
        for place, group in enumerate(ctx.progress(groups, "sensitivity to fewer bits")):
            if not scheme.coarser.keys().isdisjoint(group.sites):
                with_fewer_bits[place] = error(prepared(group.sites, scheme.coarser))
    return groups, with_fewer_bits


class _Search:
    """Finds what fits, once the errors of groups of sites are known."""

    def __init__(
        self,
        model: ir.Model,
        ctx: Context,
        scheme: Scheme,
        judge: Judge,
        samples: Sequence[Feeds],
        groups: Sequence[Group],
        with_fewer_bits: Sequence[float | None],
        every: Found,
    ) -> None:
        self._model, self._ctx, self._scheme, self._judge = model, ctx, scheme, judge
        self._groups, self._every = groups, every
        gains, least = (scheme.gains, _LEAST_GAIN) if scheme.gains else (work_of(model, samples), 1.0)
        self._options = [
            self._ways(group, sum(gains.get(site, least) for site in group.sites), fewer)
            for group, fewer in zip(groups, with_fewer_bits, strict=True)
        ]

    def run(self, roomier: Sequence[Scheme]) -> Report:
        """Adopts the best model that was found, if there is one; ``roomier`` have more room in ranges."""
        best: _Made | None = None
        failed = [_Tried([len(ways) - 1 for ways in self._options], self._together(), self._every)]
        budget: float | None = self._first_budget()
        for _ in self._ctx.progress(range(_ATTEMPTS), "choice of sites"):
            chosen = [] if budget is None else self._choose(budget)
            if budget is None or not any(chosen) or chosen in [other.chosen for other in failed]:
                break
            tried = self._try(chosen, budget)
            if not self._judge.allows(tried.found):
                failed.append(tried)
            else:
                best = tried
                if tried.found.expected > _UNUSED * (self._ctx.max_error or 0.0):
                    break
            budget = self._smaller(failed) if best is None else self._between(best, failed)
        return self._nothing() if best is None else self._adopted(best, roomier)

    def _smaller(self, failed: Sequence[_Tried]) -> float:
        """The budget after one that was too large, of which none has been small enough."""
        last = failed[-1]
        budget = last.budget * min(self._room(last.found), _SMALLER ** (len(failed) - 1))
        return max(budget, self._cheapest())

    def _between(self, best: _Tried, failed: Sequence[_Tried]) -> float | None:
        """A budget between one that fits and one that does not; None where it would choose nothing new.

        The first guess is what squares that add up leave; a model that makes hardly any error says little
        of how it grows.
        """
        low, high = best.budget, failed[-1].budget
        budget = low * self._room(best.found)
        for _ in range(_HALVINGS):
            if budget < high:
                chosen = self._choose(budget)
                if chosen not in [other.chosen for other in failed]:
                    if self._gain(chosen) > self._gain(best.chosen):
                        return budget
                    low = budget
                else:
                    high = budget
            budget = math.sqrt(low * high)
        return None

    def _cheapest(self) -> float:
        """The squared error of the site that makes the least: a budget below takes none."""
        return min((ways[1].cost for ways in self._options if ways[1].cost < math.inf), default=0.0)

    def _first_budget(self) -> float:
        """The sum of squared errors that should just fit, from how that of all sites compares with theirs."""
        if self._ctx.max_error is None:
            return self._together() / 2
        return self._together() * self._room(self._every)

    def _together(self) -> float:
        """The sum of the squared errors of all sites."""
        return sum(ways[-1].cost for ways in self._options)

    def _room(self, found: Found) -> float:
        """What to multiply a sum of squared errors with, for the limit to be met."""
        limit = self._ctx.max_error
        if limit is None or self._judge.only_metric_fails(found):
            return 0.5
        return _SLACK * (limit / found.expected) ** 2

    def _ways(self, group: Group, gain: float, with_fewer_bits: float | None) -> list[Option]:
        """In float, quantized, and where that saves something with fewer bits."""
        ways = [Option(0.0, 0.0), Option(gain, group.squared)]
        if with_fewer_bits is not None:
            more = sum(self._scheme.coarser.get(site, 0.0) for site in group.sites)
            ways.append(Option(gain + more, with_fewer_bits))
        return ways

    def _choose(self, budget: float) -> list[int]:
        return assign(self._options, budget)

    def _gain(self, chosen: Sequence[int]) -> float:
        return sum(ways[index].gain for ways, index in zip(self._options, chosen, strict=True))

    def _try(self, chosen: Sequence[int], budget: float) -> _Made:
        held = self._made(self._scheme, chosen)
        return _Made(list(chosen), budget, held.found, held.model, held.report)

    def _made(self, scheme: Scheme, chosen: Sequence[int]) -> Held:
        left: dict[str, str] = {}
        fewer: list[str] = []
        for group, ways, way in zip(self._groups, self._options, chosen, strict=True):
            if way == 0:
                left.update(dict.fromkeys(group.sites, self._reason(group, ways)))
            if way == _FEWER_BITS:
                fewer += [site for site in group.sites if site in scheme.coarser]
        trial = self._model.clone()
        report = scheme.apply(trial, left, fewer)
        return Held(trial, report, self._judge.of(trial))

    def _reason(self, group: Group, ways: Sequence[Option]) -> str:
        if ways[1].gain <= 0.0:
            return "8 bits save no time here" + (", and 4 bits lose too much" if len(ways) > 2 else "")
        one = (
            "its error alone"
            if len(group.sites) == 1
            else f"the error of it and {len(group.sites) - 1} beside it"
        )
        allowed = "the metric" if self._ctx.max_error is None else f"the allowed {self._ctx.max_error:.3g}"
        return f"{one}, {group.squared**0.5:.2g}, does not fit into {allowed} beside those of the others"

    def _adopted(self, best: _Made, roomier: Sequence[Scheme]) -> Report:
        held = widened(
            Held(best.model, best.report, best.found),
            roomier,
            self._judge,
            self._ctx.max_error,
            lambda scheme: self._made(scheme, best.chosen),
        )
        _adopt(self._model, held.model)
        skips = (*held.report.skipped, *held.found.told(self._ctx.max_error))
        return replace(
            held.report, skipped=skips, detail={**held.report.detail, "choice": self._told(held.found)}
        )

    def _nothing(self) -> Report:
        skips = [
            Skip(site, f"left in float: {self._reason(group, ways)}")
            for group, ways in zip(self._groups, self._options, strict=True)
            for site in group.sites
        ]
        skips += self._every.told(self._ctx.max_error)
        return Report(False, skipped=tuple(skips), detail={"choice": self._told(None)})

    def _told(self, found: Found | None) -> dict[str, Any]:
        """For the report: what was allowed, and what was found."""
        return {
            "allowed": self._ctx.max_error,
            "error of all sites": self._every.rel_l2,
            "error": None if found is None else found.rel_l2,
            "sensitivity": {
                group.sites[0] if len(group.sites) == 1 else f"{group.sites[0]} ... {group.sites[-1]}": round(
                    group.squared**0.5, 6
                )
                for group in self._groups
            },
        }


@dataclass(frozen=True)
class _Tried:
    """What was chosen within a budget of squared errors, and the error that came of it."""

    chosen: Sequence[int]
    budget: float
    found: Found


@dataclass(frozen=True)
class _Made(_Tried):
    """The same with the model."""

    model: ir.Model
    report: Report


def _adopt(model: ir.Model, made: ir.Model) -> None:
    """Makes ``model`` what ``made`` is."""
    model.graph = made.graph
    model.functions.clear()
    model.functions.update(made.functions)
