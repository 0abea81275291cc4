"""What each site adds to the error at the outputs, label-free.

Squared errors of sites add up to good approximation, so a group of sites stands for the sum of its members.
Groups are run with nothing else quantized; those with the largest errors are split, as many as the work
allowed for this buys. In a model of thousands of sites the few that matter are found, and the others share
what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

Prepared = Callable[[Collection[str]], ir.Model]  # the model with only these sites quantized, by name
Error = Callable[[ir.Model], float]  # squared relative error at the outputs


@dataclass(frozen=True)
class Group:
    """Sites that follow each other in the graph, and their squared error together."""

    sites: tuple[str, ...]
    squared: float


def sensitivities(
    sites: Sequence[str],
    prepared: Prepared,
    error: Error,
    *,
    runs: int,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
) -> list[Group]:
    """Groups of the sites, in their order.

    Args:
        sites: in graph order.
        runs: how many models may be tried.
    """
    single = len(sites) <= runs
    first = len(sites) if single else max(runs // 2, 1)
    bar = iter(progress(range(len(sites) if single else runs), "sensitivity of sites"))

    def measured(members: Sequence[str]) -> Group:
        next(bar, None)
        return Group(tuple(members), error(prepared(members)))

    bounds = [len(sites) * i // first for i in range(first + 1)]
    groups = [measured(sites[low:high]) for low, high in zip(bounds, bounds[1:], strict=False)]
    left = runs - first
    while left >= 2 and (worst := _worst(groups)) is not None:
        members = groups[worst].sites
        middle = len(members) // 2
        groups[worst : worst + 1] = [measured(members[:middle]), measured(members[middle:])]
        left -= 2
    for _ in bar:
        pass
    return groups


def _worst(groups: Sequence[Group]) -> int | None:
    """The group with the largest error, of those that can be split."""
    several = [i for i, group in enumerate(groups) if len(group.sites) > 1]
    return max(several, key=lambda i: groups[i].squared, default=None)
