"""How the results of a graph come about: computed, an input, or a view or size worked out beside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import fx

from .analysis import Analysis, geometry_of, storage_of
from .because import Unsupported
from .beside import nodes_beside
from .graph import Graph, describe

COMPUTED, NUMBER, INPUT, BESIDE, CONSTANT = "computed", "number", "input", "beside", "constant"

_TYPES = {bool: "bool", int: "int64", float: "float64"}


@dataclass(frozen=True)
class Plan:
    """Plain data, so that it can be kept on disk; nodes are given by name.

    Attributes:
        frozen: indices of the placeholders whose tensors are baked in.
        mutated: indices of the placeholders that are written to.
        computed: nodes that the executable computes; the mutated placeholders come first.
        orders: per computed node, the order of its axes in memory, None for the usual one.
        numbers: nodes among them that are Python numbers, with the type of the tensor that carries them.
        beside: nodes worked out in eager mode from inputs and computed values: sizes, and views.
        stand_ins: every node that this takes, with the node that has its value.
        leaves: per result one of these with a place: COMPUTED or NUMBER (a 0-d tensor) in ``computed``, INPUT
            in the placeholders, BESIDE in ``beside``, CONSTANT in the results.
        digits: name of the narrowest float type in the graph.
    """

    frozen: list[int]
    mutated: list[int]
    computed: list[str]
    orders: list[list[int] | None]
    numbers: dict[str, str]
    beside: list[str]
    stand_ins: dict[str, str]
    leaves: list[tuple[str, int]]
    digits: str | None

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Raises TypeError or ValueError where it is no such text."""
        return cls(**json.loads(text))


def make_plan(graph: Graph, analysis: Analysis) -> Plan:
    """Sorts the results.

    Raises:
        Unsupported: no plan gives what eager mode gives.
    """
    if analysis.random is not None:
        what = describe(analysis.random)
        hint = "; call eval() on the model" if "dropout" in what.partition(" (")[0] else ""
        raise Unsupported(f"{what} draws random numbers, and those of torch cannot be repeated{hint}")
    if analysis.trains is not None:
        raise Unsupported(f"{analysis.trains} is in training mode; call eval() on the model")
    for node in graph.module.graph.nodes:
        if node.op == "call_module" and _trains(graph.module.get_submodule(str(node.target))):
            raise Unsupported(f"the module {node.target} is in training mode")
    return _Planner(graph, analysis).plan()


class _Planner:
    def __init__(self, graph: Graph, analysis: Analysis) -> None:
        self._graph, self._analysis = graph, analysis
        self._homes: dict[int, fx.Node] = {}  # storage -> the node that made it
        for node, storage in analysis.storages.items():
            self._homes.setdefault(storage, node)
        self._computed: list[fx.Node] = []
        self._beside: list[fx.Node] = []
        self._numbers: set[fx.Node] = set()
        self._stand_ins: dict[str, str] = {}

    def plan(self) -> Plan:
        mutated = self._mutated()
        self._computed = [self._graph.placeholders[i] for i in mutated]
        shared = self._shared_storages()
        leaves = [self._leaf(place, leaf, shared) for place, leaf in enumerate(self._graph.leaves)]
        narrowest = self._analysis.narrowest
        return Plan(
            frozen=[i for i in self._graph.static if i not in mutated],
            mutated=mutated,
            computed=[node.name for node in self._computed],
            orders=[None if node.op == "placeholder" else self._order(node) for node in self._computed],
            numbers={node.name: _TYPES[type(self._analysis.values[node])] for node in self._numbers},
            beside=[node.name for node in self._beside],
            stand_ins=self._stand_ins,
            leaves=leaves,
            digits=None if narrowest is None else str(narrowest).removeprefix("torch."),
        )

    def _mutated(self) -> list[int]:
        """Placeholders that are written to; one whose shape changes cannot be written back."""
        storages, found = self._analysis.storages, []
        for node, storage in storages.items():
            if node.op == "get_attr" and storage in self._analysis.written:
                raise Unsupported(f"the tensor {node.target} of the module is changed in place")
        for index, node in enumerate(self._graph.placeholders):
            value = self._analysis.values[node]
            if not isinstance(value, torch.Tensor):
                continue
            if (storages[node], self._analysis.geometries[node]) != (storage_of(value), geometry_of(value)):
                raise Unsupported(f"the shape or memory of the input {node.name} is changed in place")
            if storages[node] in self._analysis.written:
                found.append(index)
                if sum(storages.get(other) == storages[node] for other in self._graph.placeholders) > 1:
                    raise Unsupported(f"{node.name} is changed in place and shares memory with another input")
        return found

    def _shared_storages(self) -> set[int]:
        """Storages that two different results lie in."""
        first: dict[int, fx.Node] = {}
        shared = set()
        for leaf in self._graph.leaves:
            storage = self._analysis.storages.get(leaf) if isinstance(leaf, fx.Node) else None
            if storage is not None and first.setdefault(storage, leaf) is not leaf:
                shared.add(storage)
        return shared

    def _leaf(self, place: int, leaf: Any, shared: set[int]) -> tuple[str, int]:
        if not isinstance(leaf, fx.Node) or self._analysis.values[leaf] is None:
            return CONSTANT, place
        if leaf.op == "placeholder":
            return INPUT, self._graph.placeholders.index(leaf)
        if leaf not in self._analysis.storages:
            return self._number(leaf)
        storage = self._analysis.storages[leaf]
        home = self._homes[storage]
        if home.op in ("placeholder", "get_attr"):
            return self._put_beside(leaf)
        if leaf.name in self._graph.differentiable:
            raise Unsupported(f"{describe(leaf)} is computed under enable_grad, and requires a gradient")
        if home is leaf or storage not in shared:
            return COMPUTED, self._compute(leaf)
        if self._memory_order(home) is None:
            raise Unsupported(f"results share memory that {describe(home)} lays out with gaps")
        self._compute(home)
        return self._put_beside(leaf)

    def _number(self, leaf: fx.Node) -> tuple[str, int]:
        try:
            return self._put_beside(leaf)
        except Unsupported:
            if type(self._analysis.values[leaf]) not in _TYPES:
                raise
            self._numbers.add(leaf)
            return NUMBER, self._compute(leaf)

    def _compute(self, node: fx.Node) -> int:
        if node not in self._computed:
            self._computed.append(node)
        return self._computed.index(node)

    def _put_beside(self, leaf: fx.Node) -> tuple[str, int]:
        found = nodes_beside(self._analysis, leaf, set(self._computed))
        self._stand_ins |= {node.name: other.name for node, other in found.items()}
        if leaf not in self._beside:
            self._beside.append(leaf)
        return BESIDE, self._beside.index(leaf)

    def _order(self, node: fx.Node) -> list[int] | None:
        """Of a dense tensor with permuted axes; anything else is laid out in the usual way."""
        order = self._memory_order(node)
        return None if order is None or order == sorted(order) else order

    def _memory_order(self, node: fx.Node) -> list[int] | None:
        if node not in self._analysis.geometries:
            return None
        return memory_order(*self._analysis.geometries[node][:2])


def memory_order(size: tuple[int, ...], strides: tuple[int, ...]) -> list[int] | None:
    """The axes from the slowest to the fastest in memory; None where there are gaps or overlaps."""
    if 0 in size:
        return list(range(len(size)))
    wide = sorted((a for a in range(len(size)) if size[a] != 1), key=lambda axis: (-strides[axis], axis))
    expected = 1
    for axis in reversed(wide):
        if strides[axis] != expected:
            return None
        expected *= size[axis]
    if wide == sorted(wide):
        return list(range(len(size)))
    return [axis for axis in range(len(size)) if size[axis] == 1] + wide


def _trains(module: torch.nn.Module) -> bool:
    """Whether a module of torch computes something else than it does in evaluation mode."""
    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.modules.dropout._DropoutNd, torch.nn.RReLU)
    return any(part.training and isinstance(part, kinds) for part in module.modules())
