"""From the values that an executable computed to the results of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch.utils import _pytree

from .beside import extract
from .executable import Executable
from .fed import fed
from .graph import Graph
from .plan import BESIDE, COMPUTED, CONSTANT, INPUT, NUMBER, Plan


class Answer:
    """Calls an executable and does what is left: writes to inputs, makes views, works out sizes."""

    def __init__(
        self, graph: Graph, plan: Plan, executable: Executable | None, arguments: Sequence[Any]
    ) -> None:
        self._executable, self._mutated = executable, plan.mutated
        self._fed = chosen(fed(graph, plan, arguments))
        self._turned = [(i, _inverse(order)) for i, order in enumerate(plan.orders) if order is not None]
        self._leaves = [_Recipe(graph, *leaf) for leaf in plan.leaves]
        self._structure = graph.structure
        self._given = slice(len(plan.mutated), None)
        self._beside = None
        if plan.beside:
            given = plan.computed[self._given]
            self._beside = extract(graph.module, plan.beside, plan.stand_ins, given).forward
        self._direct = (
            not plan.mutated
            and [tuple(leaf) for leaf in plan.leaves]
            == [(COMPUTED, place) for place in range(len(plan.computed))]
            and graph.structure == _pytree.tree_structure((0,) * len(plan.leaves))
        )

    def __call__(self, arguments: Sequence[Any]) -> Any:
        """The results in the structure of the graph; inputs that the graph changes are changed."""
        computed = self._executable(self._fed(arguments)) if self._executable is not None else []
        for place, order in self._turned:
            computed[place] = computed[place].permute(order)
        if self._direct:
            return tuple(computed)
        for place, index in enumerate(self._mutated):
            arguments[index].copy_(computed[place])
        beside = self._beside(*arguments, *computed[self._given]) if self._beside is not None else ()
        return self._structure.unflatten([leaf(arguments, computed, beside) for leaf in self._leaves])


class _Recipe:
    """How one result is had."""

    def __init__(self, graph: Graph, kind: str, place: int) -> None:
        self._kind, self._place = kind, place
        self._constant = graph.leaves[place] if kind == CONSTANT else None
        if isinstance(self._constant, torch.fx.Node):
            self._constant = None  # an operator that gives None

    def __call__(self, arguments: Sequence[Any], computed: Sequence[Any], beside: Sequence[Any]) -> Any:
        if self._kind == CONSTANT:
            return self._constant
        value = {COMPUTED: computed, NUMBER: computed, INPUT: arguments, BESIDE: beside}[self._kind][
            self._place
        ]
        return value.item() if self._kind == NUMBER else value


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def chosen(indices: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that takes the values at these indices."""
    if len(indices) > 1:
        return itemgetter(*indices)
    return (lambda values: (values[indices[0]],)) if indices else (lambda values: ())
