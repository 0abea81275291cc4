"""The `fuse` pass: small patterns by meaning, one file each, that outline fused operators."""

from __future__ import annotations

import graphlib
import sys
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from optc import registry, rewrite
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, option

from ._shared import merge_equal_nodes


def patterns() -> list[rewrite.Pattern]:
    """All patterns of this folder, each after those that it names in ``after``."""
    found: dict[str, rewrite.Pattern] = {}
    for module in registry.submodules(sys.modules[__name__]):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, rewrite.Pattern) and "name" in value.__dict__:
                found[value.name] = value()
    order = graphlib.TopologicalSorter({name: set(found[name].after) for name in sorted(found)})
    return [found[name] for name in order.static_order()]


@dataclass(frozen=True)
class Fuse(Pass):
    """Outlines attention, norms, activations and projections as fused operators."""

    name: ClassVar[str] = "fuse"
    only: str = option("", "families or patterns to look for, separated by spaces; empty: all")
    without: str = option("", "families or patterns to leave alone, separated by spaces")

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Applies the chosen patterns once each, in their order."""
        shapes.infer(model)
        done = rewrite.apply(self._chosen(), model, ctx.trail)
        if done.matched:
            merge_equal_nodes(model)
        return Report(bool(done.matched), dict(done.matched), tuple(done.skipped))

    def _chosen(self) -> list[rewrite.Pattern]:
        every = patterns()
        known = {p.name for p in every} | {p.family for p in every}
        only, without = self.only.split(), self.without.split()
        for word in [*only, *without]:
            if word not in known:
                hint = registry.did_you_mean(word, known)
                raise UserError(f"there is no fusion called {word!r}", where="option of fuse", hint=hint)
        return [
            p
            for p in every
            if (not only or p.name in only or p.family in only) and not {p.name, p.family} & set(without)
        ]
