"""The rewrites inside a pass, one by one: numbered, shown to whoever watches, and ended early when asked.

`rewrite.apply` and ``simplify`` keep the trail of the context, so a pass made of patterns has it for nothing.
A pass of another kind takes part with one line, ``for site in ctx.trail.each("my rewrite", sites, node_of)``,
or by choosing its sites so, and otherwise counts as one rewrite as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import onnx_ir as ir

SOURCE = "optc.source"  # metadata of a node: the line of the user's code that it comes from

Site = TypeVar("Site")


@dataclass(frozen=True)
class Rewrite:
    """One rewrite that was applied. Nodes are described as they were, the one it started from first."""

    number: int  # from 1, in the order of application
    name: str  # of the pattern or rule
    nodes: tuple[str, ...]
    source: str | None = None


class Watcher(Protocol):
    """Follows the rewrites. What comes before an ``applied`` belongs to that rewrite.

    It may look at the model, but not change it.
    """

    def starting(self, name: str, model: ir.Model, *, exact: bool) -> None:
        """A pass is about to run on ``model``."""

    def editing(self, node: ir.Node) -> None:
        """The inputs of ``node`` are about to change in place; its outputs keep their meaning."""

    def replacing(self, old: Sequence[ir.Value], new: Sequence[ir.Value]) -> None:
        """The readers of each old value are about to read the new one.

        Both are still computed in the graph (the new ones may be inputs or constants), from whatever they
        have in common.
        """

    def applied(self, rewrite: Rewrite) -> None:
        """The rewrite is complete. Nodes that nothing reads any more are gone, or about to go."""


@dataclass
class Trail:
    """The rewrites of one run of a pass.

    ``limit`` is how many may be applied; the pass leaves what follows as it is.
    """

    limit: int | None = None
    watchers: tuple[Watcher, ...] = ()
    rewrites: list[Rewrite] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether one more rewrite may be applied; asked before it is looked for."""
        return self.limit is None or len(self.rewrites) < self.limit

    def starting(self, name: str, model: ir.Model, *, exact: bool) -> None:
        """Tells the watchers, before a pass runs."""
        for watcher in self.watchers:
            watcher.starting(name, model, exact=exact)

    def editing(self, node: ir.Node) -> None:
        """Tells the watchers, before the inputs of a node are changed in place."""
        for watcher in self.watchers:
            watcher.editing(node)

    def replacing(self, old: Sequence[ir.Value], new: Sequence[ir.Value]) -> None:
        """Tells the watchers, before the readers of old values are given the new ones."""
        for watcher in self.watchers:
            watcher.replacing(old, new)

    def applied(self, name: str, nodes: Iterable[ir.Node]) -> None:
        """Notes a rewrite and tells the watchers."""
        touched = list(nodes)
        source = next(
            (node.metadata_props[SOURCE] for node in touched if SOURCE in node.metadata_props), None
        )
        rewrite = Rewrite(len(self.rewrites) + 1, name, tuple(describe(node) for node in touched), source)
        self.rewrites.append(rewrite)
        for watcher in self.watchers:
            watcher.applied(rewrite)

    def each(
        self, name: str, sites: Iterable[Site], node_of: Callable[[Site], ir.Node | None]
    ) -> Iterator[Site]:
        """Yields the sites as long as rewrites may be applied, and notes one when the caller comes back."""
        for site in sites:
            if not self.open:
                return
            node = node_of(site)
            yield site
            self.applied(name, [] if node is None else [node])


def describe(node: ir.Node) -> str:
    """A node for people: its op type and its name, or that of what it computes."""
    label = node.name or next((output.name for output in node.outputs if output.name), None)
    return f"{node.op_type} {label}" if label else node.op_type
