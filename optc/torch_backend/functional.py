"""The module that is compiled: what the plan computes, from the inputs that are not baked in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from .fastpath import spell_out
from .fed import fed
from .graph import Graph
from .plan import Plan


class Functional(torch.nn.Module):
    """Computes ``plan.computed`` without changing anything; arguments are those at ``indices``."""

    def __init__(self, graph: Graph, plan: Plan, arguments: Sequence[Any]) -> None:
        super().__init__()
        self._graph, self._count = graph, len(arguments)
        self._mutated = frozenset(plan.mutated)
        self.indices = fed(graph, plan, arguments)
        self._constants = {i: v for i, v in enumerate(arguments) if not isinstance(v, torch.Tensor)}
        self._frozen: dict[int, str] = {}
        for i in plan.frozen:
            name = graph.placeholders[i].name
            self._frozen[i] = name
            self.register_buffer(name, _plain(arguments[i]))
        for i in graph.baked:
            if isinstance(value := arguments[i], torch.Tensor):
                self._constants[i] = value.numpy()[()]  # its item() is a Python float
        self._body = _body(graph.module, plan)

    def forward(self, *inputs: Any) -> tuple[torch.Tensor, ...]:
        """Args are tensors and whole numbers; the results are tensors, laid out in the usual way."""
        values: list[Any] = [None] * self._count
        for i, value in zip(self.indices, inputs, strict=True):
            values[i] = value.clone() if i in self._mutated else value
        for i, name in self._frozen.items():
            values[i] = self.get_buffer(name)
        for i, size in self._graph.sizes.items():
            values[i] = values[size.tensor].shape[size.axis]
        for i, value in self._constants.items():
            values[i] = value if values[i] is None else values[i]
        result: tuple[torch.Tensor, ...] = self._body(*values)
        return result

    def example(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """What to export it with."""
        return tuple(_plain(arguments[i]) for i in self.indices)

    def dynamic_shapes(self) -> dict[str, Any] | None:
        """Which sizes are symbolic, for torch.export."""
        if not self.indices:
            return None
        hint = torch.export.Dim.AUTO
        axes = self._graph.dynamic
        specs = [dict.fromkeys(axes[i], hint) if i in axes else None for i in self.indices]
        numbers = self._graph.numbers
        return {
            "inputs": tuple(hint if i in numbers else s for i, s in zip(self.indices, specs, strict=True))
        }


def _plain(value: Any) -> Any:
    """Outside of autograd and of inference mode, where torch.export is at home."""
    if not isinstance(value, torch.Tensor):
        return value
    with torch.inference_mode(False):
        return value.clone() if value.is_inference() else value.detach()


def _body(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(module.graph, made)
    nodes = {node.name: copy for node, copy in made.items()}
    results = []
    for name, order in zip(plan.computed, plan.orders, strict=True):
        node = nodes[name]
        if name in plan.numbers:
            dtype = getattr(torch, plan.numbers[name])
            node = graph.call_function(torch.scalar_tensor, (node,), {"dtype": dtype})
        elif order is not None:
            node = graph.call_function(torch.permute, (node, order))
        results.append(node)
    graph.output(tuple(results))
    spell_out(graph)
    return fx.GraphModule(module, graph)
