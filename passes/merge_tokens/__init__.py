"""The ``merge-tokens`` pass: fewer tokens from layer to layer, where the tokens can be followed.

One file per method; each names its paper. Attention is recognised by its pattern, the tokens are followed
through the graph (`optc.analysis.axes`), and what needs all of them again gets them back in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from optc import match, removal, rewrite
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option
from optc.passes.fuse.attention import Attention
from optc.trail import Trail

from . import _schedule
from ._places import Place, Stream, find_streams
from ._protect import leading, trailing
from ._reduce import Plan
from ._walk import Walk

_OPSET = 18  # axes of reductions are inputs from here on
_R = 8


@dataclass(frozen=True)
class MergeTokens(Pass):
    """Leaves fewer tokens from layer to layer: merged by likeness, mixed, or dropped by attention.

    ``tome`` merges and ``prune`` drops ``r`` tokens (8) in every layer; ``pyramid`` drops and ``transform``
    mixes at the borders of four stages, keeping half. Say how much with ``r``, with ``keep`` (the share of
    tokens that stays at each place), or with a ``schedule``; and where with ``layers``. Leading tokens that
    enter beside the data, or are read alone, are protected (``protect=N`` says how many).
    """

    name: ClassVar[str] = "merge-tokens"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True

    method: Literal["tome", "transform", "prune", "pyramid"] = option("tome", "how tokens become fewer")
    r: int | None = option(None, f"tokens removed at each place; {_R} where neither it nor keep is given")
    keep: float | None = option(None, "share of the tokens that stays at each place")
    schedule: str = option("constant", 'constant, decreasing, or a number of tokens per place: "8,8,4"')
    layers: str = option("", 'where, such as "0-5, 8"; empty: as the method has it')
    protect: int | None = option(None, "leading tokens that always stay; none: found in the graph")
    proportional: bool = option(True, "merged tokens count as many in attention")
    score: Literal["received", "class"] = option(
        "received",
        "attention that prune, pyramid and transform rank by: of all tokens, or of the class token",
    )
    temperature: float = option(0.1, "of the softmax that transform mixes with")

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Finds the places, puts the reductions there, and rewrites what follows."""
        self._check()
        if self._changes_nothing():
            nothing = Skip("model", "no tokens are to be removed: the options ask for none")
            return Report(False, skipped=(nothing,))
        if rewrite.opset(model) < _OPSET:
            return Report(False, skipped=(Skip("model", f"it is older than operator set {_OPSET}"),))
        shapes.infer(model)
        found = rewrite.apply([Attention()], model)
        shapes.infer(model)
        streams, skips = find_streams(model)
        done = [self._reduce(model, stream, skips, ctx.trail) for stream in streams]
        made = [row for row in done if row is not None]
        if not made:
            if rewrite.inline(model):
                shapes.infer(model)
            skips += [] if streams else found.skipped
            skips += [] if skips else [Skip("model", "there is no transformer layer in it")]
            return Report(False, skipped=tuple(skips))
        removal.remove_unused(model)
        rewrite.remove_unused(model)
        shapes.infer(model)
        count = sum(len(row["tokens"]) - 1 for row in made)
        return Report(True, {f"{self.method} places": count}, tuple(skips), {"streams": made})

    def scaled(self, strength: float) -> MergeTokens:
        """As many times the tokens removed at each place, or taken from the share that stays."""
        listed = _schedule.listed(self.schedule)
        if listed is not None:
            return replace(self, schedule=",".join(str(round(strength * number)) for number in listed))
        if (share := self._share()) is not None:
            return replace(self, keep=max(round(1 - strength * (1 - share), 3), 0.01))
        return replace(self, r=round(strength * (_R if self.r is None else self.r)))

    def _changes_nothing(self) -> bool:
        listed = _schedule.listed(self.schedule)
        if listed is not None:
            return not any(listed)
        return self.r == 0 or self.keep == 1

    def _reduce(
        self, model: ir.Model, stream: Stream, skips: list[Skip], trail: Trail
    ) -> dict[str, Any] | None:
        axis = stream.layout.tokens
        tokens = match.dim(stream.entry, axis)
        label = f"block {stream.places[0].block}"
        protected = self.protect
        if protected is None:
            if trailing(model.graph, stream.entry, axis):
                why = "tokens kept: constant tokens stand behind the data (detection tokens, prompts)"
                skips.append(Skip(label, why))
                return None
            protected = leading(model.graph, stream.entry, axis, stream.followed)
        places = self._chosen(stream)
        wanted = _schedule.amounts(_R if self.r is None else self.r, self.schedule, len(places))
        if self.method != "tome" and any(_shares_heads(place) for place in places):
            skips.append(Skip(label, "tokens kept: query heads share key heads, which only tome can do"))
            return None
        if tokens is None:
            skips.append(Skip(label, "tokens kept: the dim of their number has no name"))
            return None
        places = list(trail.each("tokens reduced", places, lambda place: place.tokens.producer()))
        plan = Plan(
            model=model,
            layouts=stream.followed.layouts,
            amounts={place.layer: number for place, number in zip(places, wanted, strict=False)},
            share=self._share(),
            tokens=tokens,
            protected=protected,
            proportional=self.proportional,
            score=self.score,
            temperature=self.temperature,
            method=self.method,
            counts=[tokens],
        )
        walk = Walk(model, stream, protected, plan)
        walk.run()
        if len(plan.counts) == 1:
            skips.append(Skip(label, "tokens kept: there are too few of them that are not protected"))
            return None
        return {
            "tokens": [count if isinstance(count, int) else str(count.value) for count in plan.counts],
            "layers": [place.layer for place in places],
            "protected": protected,
            "restored for": walk.restored,
        }

    def _chosen(self, stream: Stream) -> list[Place]:
        if self.layers or self.method in ("tome", "prune"):
            chosen = _schedule.chosen(self.layers, stream.layers)
        else:
            chosen = _schedule.stages(stream.layers)
        return [place for place in stream.places if place.layer in chosen]

    def _share(self) -> float | None:
        if self.keep is not None or self.r is not None or self.method in ("tome", "prune"):
            return self.keep
        return 0.5 if self.schedule == "constant" else None

    def _check(self) -> None:
        where = str(self.name)
        if self.r is not None and self.keep is not None:
            raise UserError("r and keep contradict each other", where=where, hint="give one of them")
        if self.keep is not None and self.schedule != "constant":
            raise UserError("keep and schedule contradict each other", where=where, hint="give one of them")
        for key, low, high in (
            ("r", 0, None),
            ("protect", 0, None),
            ("keep", 0, 1),
            ("temperature", 0, None),
        ):
            value = getattr(self, key)
            if value is not None and (value < low or (high is not None and value > high)):
                allowed = f"at least {low}" if high is None else f"from {low} to {high}"
                raise UserError(f"{key}={value} is out of range", where=where, hint=allowed)
        if self.keep == 0 or self.temperature == 0:
            raise UserError("keep and temperature must be above 0", where=where, hint="such as keep=0.5")
        _schedule.amounts(0, self.schedule, 2)


def _shares_heads(place: Place) -> bool:
    queries, keys = match.static_dim(place.queries, 1), match.static_dim(place.keys, 1)
    return queries is None or queries != keys
