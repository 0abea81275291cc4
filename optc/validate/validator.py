"""Follows the rewrites of exact passes and compares what each put in a place with what was there.

When a pass starts, the model runs on the samples and all that it computes is kept. A rewrite then costs only
the run of its own new nodes, on the values that its inputs really have, with the real shapes and weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.difference import Comparison
from optc.errors import WrongRewrite
from optc.half import coarse_values
from optc.oracle import random_op
from optc.passbase import Feeds
from optc.session import ORT_ERRORS, open_session, run_session
from optc.subgraphs import subgraphs
from optc.trail import Rewrite
from optc.validate.recording import Recording
from optc.validate.submodel import Unreachable, is_fused, submodel
from optc.validate.variants import samples

Contents = list[Any]  # of one value, one entry per sample

# From about here on the tanh and erf of GELU are at their ends. Before, 1 + tanh(x) is rounded as numbers
# near 1 are, and multiplied by x: what is left where they cancel is right to a rounding step of x.
_SATURATED = 8.0


class Validator:
    """A watcher of the trail that raises `WrongRewrite` at the first rewrite that changes a value.

    Values of exact passes may move by what the tolerance of their type allows, or of the type that they were
    computed in; lossy passes change values on purpose and are left to the comparison of whole models.
    ``checked`` counts the rewrites per pass, ``unchecked`` those that could not be checked, by reason.

    Args:
        examples: feeds of the model; other numbers and sizes are made from them.
        threads: of the runs of the whole model; None is one per core.
    """

    def __init__(self, examples: Sequence[Feeds], seed: int = 0, *, threads: int | None = None) -> None:
        self._examples, self._seed, self._threads = examples, seed, threads
        self.checked: Counter[str] = Counter()
        self.unchecked: Counter[str] = Counter()
        self._recording: Recording | None = None
        self._exact = True
        self._forget()

    def starting(self, name: str, model: ir.Model, *, exact: bool) -> None:
        """Runs the model as the pass gets it."""
        self._pass, self._model, self._recording = name, model, None
        self._owners: dict[ir.Graph, ir.Node] = {}
        self._coarse: dict[ir.Value, float] = {}
        self._forget()
        self._exact = exact
        if exact and self._examples and random_op(model) is None:
            self._coarse = coarse_values(model)
            self._record()

    def editing(self, node: ir.Node) -> None:
        """Remembers what the node computes before its inputs change."""
        if self._recording is None:
            return
        top = self._top(node)
        if top is None:
            self._skipped = "it is inside a function"
            return
        self._edited[top] = None
        missing = [value for value in top.outputs if value.name and value not in self._recording]
        for value, contents in self._computed(missing).items():
            self._recording.add(value, contents)

    def replacing(self, old: Sequence[ir.Value], new: Sequence[ir.Value]) -> None:
        """Compares each new value with the old one that it stands for."""
        if self._recording is None:
            return
        pairs = []
        for before, after in zip(old, new, strict=True):
            owner = self._owner(before)
            if owner is not None:  # inside a subgraph: the node that holds it is run again when it is done
                self.editing(owner)
            else:
                pairs.append((before, after))
        unknown = [value for pair in pairs for value in pair if value not in self._recording]
        found = self._computed(list(dict.fromkeys(unknown)))
        self._fused |= any(is_fused(before.producer()) for before, _ in pairs)
        for before, after in pairs:
            self._compare(before, self._contents(before, found), self._contents(after, found))
            if before in found:
                self._recording.add(before, found[before])
            self._recording.share(after, before)
            if before in self._coarse:
                self._coarse[after] = self._coarse[before]

    def applied(self, rewrite: Rewrite) -> None:
        """Runs what was edited in place, and raises when anything was wrong."""
        if self._recording is None:
            if self._exact:
                self.unchecked["there are no values to check it with"] += 1
            return
        for node in self._edited:
            if node.graph is not None:
                outputs = [value for value in node.outputs if value.name]
                found = self._computed(outputs)
                for value in found:
                    self._compare(value, self._contents(value, {}), found[value])
        if self._narrowed and not self._wrong:
            self._record_again()
        if self._wrong:
            raise WrongRewrite(self._pass, rewrite, self._wrong[0])
        if self._compared:
            self.checked[self._pass] += 1
        else:
            self.unchecked[self._skipped or "it replaces nothing"] += 1
        self._forget()

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {"checked": dict(self.checked), "unchecked": dict(self.unchecked)}

    def _forget(self) -> None:
        self._edited: dict[ir.Node, None] = {}
        self._wrong: list[str] = []
        self._compared = 0
        self._narrowed = False
        self._fused = False
        self._largest = 0.0  # of what new nodes were run on
        self._skipped = ""

    def _record(self) -> None:
        given = self._recording.samples if self._recording else None
        chosen = given or samples(self._model, self._examples, self._seed)
        self._recording = Recording(self._model, chosen, self._threads)
        if not self._recording.samples:
            self._recording = None

    def _record_again(self) -> None:
        """A value became smaller, as its readers repeat it: what they make of it has to stay the same."""
        before = self._recording
        self._record()
        if before is None:
            return
        if self._recording is None or len(self._recording.samples) < len(before.samples):
            self._wrong.append("the model no longer runs on inputs on which it ran")
            return
        for value in self._recording.values():
            if value in before and value.producer() is not None:
                contents = [before.of(value, i) for i in range(len(before.samples))]
                now = [self._recording.of(value, i) for i in range(len(before.samples))]
                self._compare(value, contents, now, exact_shape=value.is_graph_output())

    def _computed(self, values: list[ir.Value]) -> dict[ir.Value, Contents]:
        """What values hold when they are computed as the graph now says; none when that cannot be run."""
        recording = self._recording
        if not values or recording is None:
            return {}
        try:
            part = submodel(self._model, values, recording.__contains__)
        except Unreachable as reason:
            self._skipped = str(reason)
            return {}
        self._fused |= part.fused
        found: dict[ir.Value, Contents] = {value: [] for value in values}
        try:
            session = open_session(part.model, optimize=False, threads=1)
            for sample in range(len(recording.samples)):
                feeds = {str(value.name): recording.of(value, sample) for value in part.known}
                self._largest = max(self._largest, *map(_largest, feeds.values()), 0.0)
                results = run_session(session, feeds)
                for value in values:
                    found[value].append(results[str(value.name)])
        except ORT_ERRORS as error:
            self._wrong.append(f"what it put there does not run: {str(error).strip().splitlines()[0]}")
            return {}
        return found

    def _contents(self, value: ir.Value, found: dict[ir.Value, Contents]) -> Contents | None:
        recording = self._recording
        if value in found:
            return found[value]
        if recording is None or value not in recording:
            return None
        return [recording.of(value, sample) for sample in range(len(recording.samples))]

    def _compare(
        self, value: ir.Value, old: Contents | None, new: Contents | None, *, exact_shape: bool = False
    ) -> None:
        if old is None or new is None or self._recording is None:
            return
        self._compared += 1
        for sample, before, after in zip(self._recording.samples, old, new, strict=True):
            if sample.special and self._fused:
                continue  # they promise nothing about NaN and infinities that are multiplied by zero
            if not exact_shape and _is_narrower(after, before):
                self._narrowed = True
                after = np.broadcast_to(after, before.shape)
            name = str(value.name)
            comparison = Comparison({name: self._coarse.get(value, 0.0)})
            comparison.add({name: _without_infinities(before)}, {name: _without_infinities(after)})
            result = comparison.result()
            if not result.exact and not (result.reason is None and result.max_abs <= self._step(before)):
                what = result.reason or f"relative error {result.rel_l2:.2g} at {name}"
                self._wrong.append(f"{what} (on {sample.name})")
                return

    def _step(self, value: Any) -> float:
        """By how much rounding moves numbers as large as those that went in, where they cancel."""
        if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32, np.float64):
            return 0.0
        return float(np.finfo(value.dtype).eps) * min(self._largest, _SATURATED)

    def _top(self, node: ir.Node) -> ir.Node | None:
        """The node of the main graph that ``node`` is, or is inside of; None in a function."""
        if node.graph is self._model.graph:
            return node
        if node.graph not in self._owners:
            self._owners = {body: top for top in self._model.graph for body in _bodies(top)}
        return self._owners.get(node.graph) if isinstance(node.graph, ir.Graph) else None

    def _owner(self, value: ir.Value) -> ir.Node | None:
        """The node of the main graph whose subgraph defines ``value``."""
        producer = value.producer()
        if producer is not None:
            return None if producer.graph is self._model.graph else self._top(producer)
        graph = value.graph
        if graph is None or graph is self._model.graph:
            return None
        return next((top for top in self._model.graph if graph in _bodies(top)), None)


def _bodies(node: ir.Node) -> list[ir.Graph]:
    return [inner for _, body in subgraphs(node) for inner in (body, *body.subgraphs())]


def _is_narrower(after: Any, before: Any) -> bool:
    if not isinstance(after, np.ndarray) or not isinstance(before, np.ndarray):
        return False
    if after.shape == before.shape or after.ndim > before.ndim:
        return False
    pairs = zip(reversed(after.shape), reversed(before.shape), strict=False)
    return all(size in (1, whole) for size, whole in pairs)


def _largest(value: Any) -> float:
    """Of the finite numbers of a float tensor."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return 0.0
    return float(np.abs(value).max(initial=0.0, where=np.isfinite(value)))


def _without_infinities(value: Any) -> Any:
    """Sums in another order make infinities of NaN and the other way round."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return np.where(np.isinf(value), value.dtype.type(np.nan), value)
