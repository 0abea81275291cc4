"""What torch.compile calls: an executable for the weights that a graph is called with, or eager mode."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

from torch.utils import _pytree

from optc.errors import UserError

from .because import FallbackWarning, Unsupported
from .build import build
from .check import disagreement
from .counts import COUNTERS
from .graph import Graph
from .options import Options
from .state import State
from .variant import Variant
from .weights import identity_of

_MOST_VARIANTS = 8  # for the same weights: of numbers that are baked in, and of sizes
_MOST_WASTED = 8  # executables in a row that answered hardly a call before the weights changed
_HARDLY = 2


class Compiled:
    """A graph of dynamo, callable with its arguments; may be called from several threads at once.

    It is compiled when it is first called, when the values of its arguments are known. The same graph may be
    called with the weights of several modules: dynamo traces equal layers once.

    Args:
        grad: whether it is for calls in grad mode, which dynamo guards; then it refuses what needs gradients.
    """

    def __init__(self, graph: Graph, options: Options, *, grad: bool) -> None:
        self._graph, self._options = graph, options
        self._refused = grad and graph.requires_grad
        self._lock = threading.RLock()
        self._variants: dict[tuple[int, ...], list[Variant]] = {}
        self._last: Variant | None = None
        self._state = State()
        self._reason: str | None = None
        self._wasted = 0
        self._counted = False

    def __call__(self, *arguments: Any) -> Any:
        """The results of the graph, in its own structure.

        Raises:
            UserError: the results would need gradients, or an option is wrong.
            OptcError: a pass failed on the graph.
        """
        variant = self._last
        if variant is None or not variant.fits(arguments):
            variant = self._find(arguments)
        if variant is None:
            return self._eager(arguments)
        if variant.overlaps(arguments):
            self._note("an input that is changed in place shares memory with another one")
            return self._eager(arguments)
        try:
            result = self._checked(variant, arguments) if variant.unchecked else variant.answer(arguments)
        except Unsupported as error:
            result = self._eager(arguments)  # where eager mode fails too, the caller is wrong, not the graph
            self._fall_back(str(error))
            return result
        variant.calls += 1
        if variant.executable is not None:
            COUNTERS.add("artifact_calls")
        return result

    def _eager(self, arguments: Sequence[Any]) -> Any:
        COUNTERS.add("eager_calls")
        return self._graph.module.forward(*arguments)

    def _find(self, arguments: Sequence[Any]) -> Variant | None:
        """The variant for these arguments, made if there is none; None for eager mode."""
        if self._refused:
            raise UserError(
                "the results would need gradients, and the backend 'optc' is for inference",
                where=self._graph.where(),
                hint="call the model inside `with torch.no_grad():` or `with torch.inference_mode():`",
            )
        with self._lock:
            if self._reason is not None:
                return None
            identity = identity_of([arguments[i] for i in self._graph.static])
            variants = self._current(identity, arguments)
            variant = next((v for v in variants if v.fits(arguments)), None)
            if variant is None:
                variant = self._make(arguments, self._thawed(arguments, identity))
            self._last = variant
            return variant

    def _thawed(self, arguments: Sequence[Any], identity: tuple[int, ...]) -> tuple[int, ...]:
        """The identity of the weights, after buffers that change all the time have become inputs."""
        changing = self._state.changing({i: arguments[i] for i in self._graph.static})
        if not changing:
            return identity
        self._graph.thaw(changing)
        self._variants.clear()
        self._wasted = 0
        return identity_of([arguments[i] for i in self._graph.static])

    def _current(self, identity: tuple[int, ...], arguments: Sequence[Any]) -> list[Variant]:
        """The variants whose weights have not changed; the others are dropped."""
        variants = self._variants.get(identity, [])
        current = [variant for variant in variants if variant.holds(arguments)]
        if len(current) < len(variants):
            COUNTERS.add("recompiles")
            hardly = all(variant.calls <= _HARDLY for variant in variants)
            self._wasted = self._wasted + 1 if hardly else 0
            self._variants[identity] = current
        return current

    def _make(self, arguments: Sequence[Any], identity: tuple[int, ...]) -> Variant | None:
        variants = self._variants.setdefault(identity, [])
        if self._wasted >= _MOST_WASTED:
            self._fall_back("its weights change at nearly every call")
            return None
        if len(variants) >= _MOST_VARIANTS:
            self._fall_back(f"numbers or sizes in it took more than {_MOST_VARIANTS} values")
            return None
        try:
            built = self._built(arguments)
        except Unsupported as error:
            self._fall_back(str(error))
            return None
        owner = weakref.ref(self)

        def dropped() -> None:
            if (compiled := owner()) is not None:
                compiled._drop(identity)

        variant = Variant(self._graph, built, arguments, dropped)
        variants.append(variant)
        if not self._counted:
            self._counted = True
            COUNTERS.add("graphs")
        return variant

    def _built(self, arguments: Sequence[Any]) -> Any:
        try:
            return build(self._graph, arguments, self._options)
        except Unsupported:
            if not (self._graph.numbers or self._graph.fractions):
                raise
            self._graph.bake_numbers()
            return build(self._graph, arguments, self._options)

    def _drop(self, identity: tuple[int, ...]) -> None:
        """The weights are gone, and nobody can call with them again."""
        gone = self._variants.pop(identity, [])
        if self._last in gone:
            self._last = None

    def _checked(self, variant: Variant, arguments: Sequence[Any]) -> Any:
        """The first answer of a new executable, compared with eager mode.

        Raises:
            Unsupported: they differ by more than rounding.
        """
        if not self._options.check:
            variant.unchecked = False
            return variant.answer(arguments)
        mutated = variant.plan.mutated
        copies = [[v.clone() if i in mutated else v for i, v in enumerate(arguments)] for _ in range(2)]
        expected = _pytree.tree_leaves(self._graph.module.forward(*copies[0]))
        actual = _pytree.tree_leaves(result := variant.answer(copies[1]))
        expected += [copies[0][i] for i in mutated]
        actual += [copies[1][i] for i in mutated]
        found = disagreement(expected, actual, variant.plan.digits, self._options.allowed_error())
        if found is not None:
            variant.forget()
            raise Unsupported(f"the compiled graph is not right here: {found}")
        variant.unchecked = False
        return variant.answer(arguments) if mutated else result

    def _fall_back(self, reason: str) -> None:
        """From now on, this graph runs in eager mode."""
        with self._lock:
            self._reason, self._last = reason, None
            self._variants.clear()
        self._note(reason)

    def _note(self, reason: str) -> None:
        COUNTERS.fell_back(reason)
        where = self._graph.where()
        place = f"\n  where: {where}" if where else ""
        graph = f"a graph of {self._graph.operators()} operators"
        text = f"{graph} runs in eager mode instead of optc: {reason}{place}"
        warnings.warn(text, FallbackWarning, stacklevel=3)
