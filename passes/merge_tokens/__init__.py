"""The ``merge-tokens`` pass: fewer tokens from layer to layer, where the tokens can be followed.

One file per method; each names its paper. Attention is recognised by its pattern, the tokens are followed
through the graph (`optc.analysis.axes`), and what needs all of them again gets them back in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from optc import match, removal, rewrite
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip
from optc.passes.fuse.attention import Attention

from . import _schedule
from ._places import Stream, find_streams
from ._protect import leading, trailing
from ._reduce import Tome
from ._walk import Walk

_OPSET = 18  # axes of reductions are inputs from here on


@dataclass(frozen=True)
class MergeTokens(Pass):
    """Merges the most similar tokens between attention and MLP, layer by layer."""

    name: ClassVar[str] = "merge-tokens"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True

    method: Literal["tome"] = "tome"
    r: int = 8
    schedule: str = "constant"
    layers: str = ""
    protect: int | None = None
    proportional: bool = True

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Finds the places, puts the merges there, and rewrites what follows."""
        self._check()
        _schedule.amounts(self.r, self.schedule, 2)
        if self.r == 0 and self.schedule in ("constant", "decreasing"):
            return Report(False)
        if rewrite.opset(model) < _OPSET:
            return Report(False, skipped=(Skip("model", f"it is older than operator set {_OPSET}"),))
        shapes.infer(model)
        found = rewrite.apply([Attention()], model)
        shapes.infer(model)
        streams, skips = find_streams(model)
        detail: dict[str, Any] = {"streams": []}
        merged = 0
        for stream in streams:
            done = self._reduce(model, stream, skips)
            merged += len(done.get("tokens", ())) - 1 if done else 0
            if done:
                detail["streams"].append(done)
        if not merged:
            rewrite.inline(model)
            skips += [skip for skip in found.skipped if not streams]
            nothing = Skip("model", "no token was merged") if not skips else None
            return Report(False, skipped=(*skips, *([nothing] if nothing else [])))
        removal.remove_unused(model)
        rewrite.remove_unused(model)
        shapes.infer(model)
        return Report(True, {"tokens merged": merged}, tuple(skips), detail)

    def _reduce(self, model: ir.Model, stream: Stream, skips: list[Skip]) -> dict[str, Any] | None:
        axis = stream.layout.tokens
        tokens = match.static_dim(stream.entry, axis)
        label = f"block {stream.places[0].block}"
        if tokens is None:
            skips.append(Skip(label, "tokens kept: their number is not known when compiling"))
            return None
        if self.protect is None and trailing(model.graph, stream.entry, axis):
            why = "tokens kept: constant tokens stand behind the data (detection tokens, prompts)"
            skips.append(Skip(label, why))
            return None
        protected = self.protect
        if protected is None:
            protected = leading(model.graph, stream.entry, axis, stream.followed)
        chosen = _schedule.chosen(self.layers, stream.layers)
        places = [place for place in stream.places if place.layer in chosen]
        wanted = _schedule.amounts(self.r, self.schedule, len(places))
        amounts = {place.layer: number for place, number in zip(places, wanted, strict=True)}
        layouts = stream.followed.layouts
        reduce = Tome(model, layouts, amounts, tokens, protected, self.proportional)
        walk = Walk(model, stream, protected, reduce)
        walk.layouts = layouts
        walk.run()
        counts = [tokens]
        for amount in _schedule.capped(wanted, tokens, protected):
            counts.append(counts[-1] - amount)
        return {
            "tokens": counts,
            "layers": [place.layer for place in places],
            "protected": protected,
            "restored for": walk.restored,
        }

    def _check(self) -> None:
        if self.r < 0:
            raise UserError(f"r={self.r} is out of range", where="merge-tokens", hint="at least 0")
        if self.protect is not None and self.protect < 0:
            raise UserError(
                f"protect={self.protect} is out of range", where="merge-tokens", hint="at least 0"
            )
