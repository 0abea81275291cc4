"""The ``share-attention`` pass: neighbouring layers whose attention is alike compute it once.

EchoAtt, arXiv 2409.14595: a group of inner layers uses the probabilities of its first layer, the leader. The
followers keep their value and output projections; their query and key projections disappear. An addition of
ours: layers do not agree on an order of heads, so each head of a follower takes the one most like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from optc import removal
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option
from optc.passes.simplify.columns import narrow_products

from ._groups import Group, group
from ._share import share
from ._similarity import similarities
from ._sites import Site, find_stacks


@dataclass(frozen=True)
class ShareAttention(Pass):
    """Lets neighbouring layers with similar attention reuse the probabilities of the first of them.

    ``count`` layers become followers, those most like their leaders first; without it, all that are at least
    ``threshold`` (mean cosine) like their leader. ``group`` limits how many layers share. Heads are paired by
    likeness, or as they lie with ``match-heads=false``. The first and last layer of every stream stay, unless
    ``protect=false``.
    """

    name: ClassVar[str] = "share-attention"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True

    count: int | None = option(None, "layers that become followers; none: all above the threshold")
    threshold: float = option(0.9, "mean cosine of the probabilities from which layers are alike")
    group: int | None = option(None, "layers that share at most; none: any number")
    match_heads: bool = option(True, "heads are paired by likeness, not as they lie")
    protect: bool = option(True, "the first and last layer of every stream stay")

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Compares the layers on the calibration data, groups them, and rewires the followers."""
        self._check(ctx)
        if self.count == 0:
            return Report(False, detail={"followers": []})
        shapes.infer(model)
        stacks, skips = find_stacks(model, protect=self.protect)
        stacks = [stack for stack in stacks if len(stack) > 1]
        if not stacks:
            nothing = Skip("model", "there are no two layers in it whose attention could be shared")
            return Report(False, skipped=(*skips, nothing))
        cosines = [similarities(model, stack, ctx) for stack in stacks]
        heads = [self._heads(each) for each in cosines]
        alike = [_mean(each, chosen) for each, chosen in zip(cosines, heads, strict=True)]
        groups = self._group(alike)
        followers: list[dict[str, Any]] = []
        before = _elements(model)
        for stack, chosen, members in zip(stacks, heads, groups, strict=True):
            for each in members:
                followers += share(stack, each, chosen, ctx)
        if followers:
            removal.remove_unused(model)
            narrow_products(model)  # queries, keys and values may come from one packed projection
            shapes.infer(model)
        else:
            skips.append(Skip("model", f"no neighbouring layers are {self.threshold} alike"))
        detail = {
            "followers": followers,
            "similarity": _neighbours(stacks, alike),
            "parameters_removed": before - _elements(model),
        }
        matched = {"attention shared": len(followers)} if followers else {}
        return Report(bool(followers), matched, tuple(skips), detail)

    def scaled(self, strength: float) -> ShareAttention:
        """As many times the followers; or a threshold as many times further from 1."""
        if strength == 0 or self.count is not None:
            return replace(self, count=round(strength * (self.count or 0)))
        return replace(self, threshold=max(round(1 - strength * (1 - self.threshold), 4), 0.0))

    def _heads(self, cosines: np.ndarray) -> np.ndarray:
        """[layers, layers, heads]: the head of the row's layer for each head of the column's."""
        if self.match_heads:
            return np.asarray(cosines.argmax(axis=2))
        return np.broadcast_to(np.arange(cosines.shape[-1]), (*cosines.shape[:2], cosines.shape[-1]))

    def _group(self, alike: Sequence[np.ndarray]) -> list[list[Group]]:
        """The groups of each stack; the stacks compete for the followers that ``count`` allows."""
        threshold = self.threshold if self.count is None else -1.0
        sizes = [len(values) for values in alike]
        starts = np.cumsum([0, *sizes])
        joint = np.full((starts[-1], starts[-1]), -np.inf)  # layers of different stacks never join
        for start, size, values in zip(starts, sizes, alike, strict=False):
            joint[start : start + size, start : start + size] = values
        groups = group(joint, followers=self.count, threshold=threshold, largest=self.group)
        found = len(joint) - len(groups)
        if self.count is not None and found < self.count:
            raise UserError(
                f"count={self.count} asks for more followers than there can be ({found})",
                where=str(self.name),
                hint="ask for less, or for larger groups; protect=false frees the first and last layer too",
            )
        return [
            [each.moved(-start) for each in groups if start <= each.leader < start + size]
            for start, size in zip(starts, sizes, strict=False)
        ]

    def _check(self, ctx: Context) -> None:
        where = str(self.name)
        if self.count is not None and self.count < 0:
            raise UserError(f"count={self.count} is out of range", where=where, hint="at least 0")
        if not 0 <= self.threshold <= 1:
            what = f"threshold={self.threshold} is out of range"
            raise UserError(what, where=where, hint="a cosine from 0 to 1")
        if self.group is not None and self.group < 2:
            what = f"group={self.group} is out of range"
            raise UserError(what, where=where, hint="at least 2: a leader and a follower")
        if not ctx.calibration:
            hint = "give --calib (calibration= in Python): which layers are alike is seen on real inputs"
            raise UserError("it needs calibration data", where=where, hint=hint)


def _mean(cosines: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """[layers, layers]: the mean over the column's heads of how much like it the chosen head is."""
    taken = np.take_along_axis(cosines, heads[:, :, None, :], axis=2)
    return np.asarray(taken[:, :, 0, :].mean(axis=-1))


def _neighbours(stacks: Sequence[Sequence[Site]], alike: Sequence[np.ndarray]) -> dict[str, float]:
    return {
        f"{other.label} to {one.layer}": round(float(values[place, place + 1]), 4)
        for stack, values in zip(stacks, alike, strict=True)
        for place, (one, other) in enumerate(zip(stack, stack[1:], strict=False))
    }


def _elements(model: ir.Model) -> int:
    """How many numbers the weights hold."""
    return sum(
        value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None
    )
