"""A graph as dynamo hands it over, and what is known about its inputs before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree


@dataclass(frozen=True)
class Size:
    """A placeholder for a number that is the size of a tensor along an axis."""

    tensor: int
    axis: int


class Graph:
    """A GraphModule with its inputs sorted.

    Attributes:
        module: as it was given; calling it is eager mode.
        placeholders: in the order of the arguments.
        static: indices of parameters and buffers among them, apart from those that were thawed.
        dynamic: axes of symbolic size, by index of the tensor.
        sizes: numbers that are sizes of tensors, by index of the number.
        numbers: indices of other symbolic whole numbers, which an executable takes as inputs.
        fractions: indices of tensors without axes that carry a Python float.
        baked: indices of all other values that are no tensors.
        leaves: the results in order; fx nodes or constants.
        attributes: tensors that the module itself holds.
        requires_grad: whether a result would, in grad mode; if that is not known, whether an input does.
        differentiable: names of results that do although it is not grad mode: the model switches it on.
    """

    def __init__(self, module: fx.GraphModule, example_inputs: Sequence[Any]) -> None:
        self.module = _signs_kept(module)
        self.placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self.static = [i for i, v in enumerate(example_inputs) if _is_static(self.placeholders[i], v)]
        self.dynamic = {i: axes for i, node in enumerate(self.placeholders) if (axes := _symbolic_axes(node))}
        self.sizes = self._sizes()
        self.numbers = {i for i, v in enumerate(example_inputs) if isinstance(v, torch.SymInt)} - {
            *self.sizes
        }
        self.fractions = {i for i, node in enumerate(self.placeholders) if _is_fraction(node)}
        others = {i for i, v in enumerate(example_inputs) if not isinstance(v, torch.Tensor)}
        self.baked = sorted(others - {*self.sizes} - self.numbers)
        output = next(iter(reversed(module.graph.nodes)))
        self.leaves, self.structure = _pytree.tree_flatten(output.args[0])
        # What an in-place update may change; dynamo has the weights among the inputs, fx tracing does not.
        self.attributes = [t for t in _tensors(module) if isinstance(t, torch.Tensor)]
        self.requires_grad = self._requires_grad(example_inputs)
        self.differentiable = [] if torch.is_grad_enabled() else self._differentiable()

    def facts(self) -> dict[str, Any]:
        """What `restored` needs beside the module: what only dynamo knew."""
        return {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def restored(cls, module: fx.GraphModule, facts: Mapping[str, Any]) -> Graph:
        """The graph of a module whose nodes have lost what dynamo noted at them."""
        graph = cls(module, ())
        vars(graph).update(facts)
        return graph

    def bake_numbers(self) -> None:
        """Makes numbers part of the executables, one for each value, where they cannot be inputs."""
        self.baked = sorted({*self.baked, *self.numbers, *self.fractions})
        self.numbers, self.fractions = set(), set()

    def thaw(self, indices: Collection[int]) -> None:
        """Makes tensors of a module inputs of the executables: those that change all the time."""
        self.static = [i for i in self.static if i not in indices]

    def where(self) -> str | None:
        """The first line of the user's code that the graph comes from."""
        for node in self.module.graph.nodes:
            if node.op.startswith("call") and (line := line_of(node)):
                return line
        return None

    def operators(self) -> int:
        """How many operators there are."""
        return sum(node.op.startswith("call") for node in self.module.graph.nodes)

    def _requires_grad(self, example_inputs: Sequence[Any]) -> bool:
        nodes = [leaf for leaf in self.leaves if isinstance(leaf, fx.Node)]
        known = all("example_value" in node.meta for node in nodes)
        values = (
            [node.meta["example_value"] for node in nodes]
            if known
            else [
                *filter(lambda value: isinstance(value, torch.nn.Parameter), example_inputs),
                *self.attributes,
            ]
        )
        return any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)

    def _differentiable(self) -> list[str]:
        nodes = [leaf for leaf in self.leaves if isinstance(leaf, fx.Node)]
        values = ((node.name, node.meta.get("example_value")) for node in nodes)
        return [name for name, value in values if isinstance(value, torch.Tensor) and value.requires_grad]

    def _sizes(self) -> dict[int, Size]:
        first: dict[str, Size] = {}
        for index, axes in self.dynamic.items():
            shape = self.placeholders[index].meta["example_value"].shape
            for axis in axes:
                first.setdefault(str(shape[axis]), Size(index, axis))
        values = ((i, node.meta.get("example_value")) for i, node in enumerate(self.placeholders))
        return {i: first[str(v)] for i, v in values if isinstance(v, torch.SymInt) and str(v) in first}


def _signs_kept(module: fx.GraphModule) -> fx.GraphModule:
    """Torch writes the power of a negative number down as ``-2 ** x``, which Python reads as -(2 ** x)."""
    for part in filter(_is_graph, module.modules()):
        nodes = [node for node in part.graph.nodes if _is_power(node)]  # type: ignore[union-attr]
        for node in nodes:
            node.target = pow
        if nodes:
            part.recompile()  # type: ignore[operator]
    return module


def _is_graph(module: torch.nn.Module) -> bool:
    return isinstance(module, fx.GraphModule)


def _is_power(node: fx.Node) -> bool:
    return node.target is operator.pow and not isinstance(node.args[0], fx.Node)


_FACTS = ("static", "dynamic", "sizes", "numbers", "fractions", "baked", "requires_grad", "differentiable")


def line_of(node: fx.Node) -> str | None:
    """``file:line`` of the user's code behind a node."""
    from optc.capture.provenance import innermost

    return innermost(str(node.meta.get("stack_trace") or node.stack_trace or ""))


def describe(node: fx.Node) -> str:
    """An fx node for people: what it calls, and from which line."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
    line = line_of(node)
    return f"{target} ({line})" if line else str(target)


def _is_static(node: fx.Node, value: Any) -> bool:
    """Whether it belongs to a module: dynamo marks such tensors as never changing their address."""
    if isinstance(value, torch.nn.Parameter):
        return True
    marks = node.meta.get("tensor_dict") or {}
    return isinstance(value, torch.Tensor) and bool(marks.get("_dynamo_static_input_type"))


def _is_fraction(node: fx.Node) -> bool:
    origin = node.meta.get("grapharg")
    carries = getattr(origin, "pass_arg_as_tensor", False) and not getattr(origin, "is_tensor", True)
    return carries and all(is_item(user) for user in node.users)


def is_item(node: fx.Node) -> bool:
    """Whether it takes the number out of a tensor."""
    return node.op == "call_method" and node.target == "item"


def _symbolic_axes(node: fx.Node) -> list[int]:
    value = node.meta.get("example_value")
    if not isinstance(value, torch.Tensor):
        return []
    return [axis for axis, size in enumerate(value.shape) if isinstance(size, torch.SymInt)]


def _tensors(module: fx.GraphModule) -> list[Any]:
    held = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        held += [v for k, v in vars(part).items() if isinstance(v, torch.Tensor) and not k.startswith("__")]
    return list({id(tensor): tensor for tensor in held}.values())
