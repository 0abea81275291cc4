"""An executable, with what was baked into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from optc.ort_errors import ORT_ERRORS

from .answer import Answer, chosen
from .because import Unsupported, reason_of
from .build import Built
from .graph import Graph
from .weights import Watch


class Variant:
    """Answers calls with the same weights, the same baked numbers, and the sizes that it was made for.

    Attributes:
        plan: how results come about.
        executable: None where there is nothing to compute.
        unchecked: nobody has compared it with eager mode.
        calls: how many it has answered.
    """

    def __init__(
        self, graph: Graph, built: Built, arguments: Sequence[Any], dropped: Callable[[], None]
    ) -> None:
        self.plan, self.executable, self.unchecked = built.plan, built.executable, built.fresh
        self.calls = 0
        self._built = built
        self._weights = chosen(built.plan.frozen)
        self._attributes = graph.attributes
        self._watch = Watch([*self._weights(arguments), *self._attributes], dropped)
        self._baked = [(i, arguments[i]) for i in graph.baked]
        self._fixed = built.fixed_sizes(graph, arguments)
        self._answer = Answer(graph, built.plan, built.executable, arguments)

    def holds(self, arguments: Sequence[Any]) -> bool:
        """Whether the weights are those that are baked in, unchanged."""
        return self._watch.holds([*self._weights(arguments), *self._attributes])

    def fits(self, arguments: Sequence[Any]) -> bool:
        """Whether it can answer a call with these arguments."""
        return (
            self.holds(arguments)
            and all(arguments[i].shape[axis] == size for i, axis, size in self._fixed)
            and all(type(arguments[i]) is type(v) and arguments[i] == v for i, v in self._baked)
        )

    def overlaps(self, arguments: Sequence[Any]) -> bool:
        """Whether an input that is written to shares its memory with another one."""
        if not self.plan.mutated:
            return False
        memory = [
            v.untyped_storage().data_ptr() for v in arguments if isinstance(v, torch.Tensor) and v.numel()
        ]
        written = {arguments[i].untyped_storage().data_ptr() for i in self.plan.mutated}
        return any(memory.count(address) > 1 for address in written)

    def answer(self, arguments: Sequence[Any]) -> Any:
        """The results of the graph.

        Raises:
            Unsupported: the runtime failed; no input has been changed.
        """
        try:
            return self._answer(arguments)
        except ORT_ERRORS as error:
            raise Unsupported(f"the runtime failed: {reason_of(error)}") from error

    def forget(self) -> None:
        """Removes it from the disk cache."""
        if self._built.cache is not None and self._built.key is not None:
            self._built.cache.forget(self._built.key)
