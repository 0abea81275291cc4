"""The ``skip-layers`` pass: removes whole blocks, or their attention or MLP halves, found by structure.

One file per way of choosing; each names its paper. What is removed is replaced by identity, or by a map
that is fitted on calibration data (``_compensate.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option

from . import _influence, _search, _similarity, _uniform
from ._amount import how_many
from ._problem import Choice, Problem
from ._remove import remove
from ._sites import find_sites
from ._stand_in import stand_ins

_METHODS: dict[str, Callable[[Problem], Choice]] = {
    "influence": _influence.choose,
    "uniform": _uniform.choose,
    "similarity": _similarity.choose,
    "search": _search.choose,
}


@dataclass(frozen=True)
class SkipLayers(Pass):
    """Removes the blocks (or attention or MLP halves) that matter least.

    Say how much with one of ``count``, ``ratio`` (of all pieces) and ``speedup`` (by operations).
    ``influence``, ``similarity`` and ``search`` need calibration data; ``uniform`` needs none. The first and
    the last block of every stream stay, unless ``protect=false``.
    """

    name: ClassVar[str] = "skip-layers"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True

    method: Literal["influence", "uniform", "similarity", "search"] = option(
        "influence", "how pieces are chosen"
    )
    scope: Literal["block", "attention", "mlp"] = option("block", "what a piece is")
    count: int | None = option(None, "pieces to remove")
    ratio: float | None = option(None, "share of all pieces to remove")
    speedup: float | None = option(None, "removes pieces until operations are fewer by this factor")
    compensate: Literal["false", "true", "diagonal", "linear"] = option(
        "false", "a map fitted on calibration data takes the place of a piece"
    )
    protect: bool = option(True, "the first and last block of every stream stay")
    budget: int = option(60, "models that method=search may try")

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Chooses, fits what takes the place of the removed pieces, and removes them."""
        self._check(ctx)
        shapes.infer(model)
        sites, skips = find_sites(model, self.scope)
        candidates = [site for site in sites if not (self.protect and site.protected)]
        if not sites:
            nothing = Skip("model", f"there is no removable {self.scope} in it")
            return Report(False, skipped=(*skips, nothing))
        count = how_many(
            model, sites, candidates, ctx, count=self.count, ratio=self.ratio, speedup=self.speedup
        )
        if count == 0:
            return Report(False, skipped=tuple(skips), detail={"removed": [], "pieces": len(sites)})
        samples = ctx.calibration or ()
        problem = Problem(model, sites, candidates, count, samples, self.budget, ctx)
        choice = _METHODS[self.method](problem)
        removed = list(ctx.trail.each(f"{self.scope} removed", choice.sites, lambda site: site.nodes[-1]))
        fitted = stand_ins(model, removed, self.compensate, ctx)
        remove(model, removed, dict(fitted.bridges))
        shapes.infer(model)
        detail: dict[str, Any] = {
            "removed": [site.label for site in removed],
            "layers": [site.layer for site in removed],
            "pieces": len(sites),
            "scores": {label: round(score, 6) for label, score in choice.scores.items()},
        }
        if self.compensate != "false":
            detail["compensation"] = fitted.notes()
        matched = {f"{self.scope} removed": len(removed), **fitted.counted()}
        return Report(bool(removed), matched, (*skips, *fitted.skipped), detail)

    def scaled(self, strength: float) -> SkipLayers | None:
        """As many times the pieces; for ``speedup``, as many times the gain."""
        if self.count is not None:
            return replace(self, count=round(strength * self.count))
        if self.ratio is not None:
            return replace(self, ratio=min(round(strength * self.ratio, 4), 0.99))
        if self.speedup is not None:
            return replace(self, speedup=round(1 + strength * (self.speedup - 1), 4))
        return None

    def _check(self, ctx: Context) -> None:
        given = {
            key: value for key in ("count", "ratio", "speedup") if (value := getattr(self, key)) is not None
        }
        where = str(self.name)
        if len(given) != 1:
            what = "say how much to remove" if not given else f"{' and '.join(given)} contradict each other"
            raise UserError(what, where=where, hint="give one of count=N, ratio=F and speedup=F")
        if (self.count or 0) < 0 or not 0 <= (self.ratio or 0) < 1 or not (self.speedup or 1) >= 1:
            key, value = next(iter(given.items()))
            allowed = "count is at least 0, ratio from 0 to below 1, speedup at least 1"
            raise UserError(f"{key}={value} is out of range", where=where, hint=allowed)
        if self.budget < 1:
            raise UserError(f"budget={self.budget} is out of range", where=where, hint="at least 1")
        needs = "method=" + self.method if self.method != "uniform" else "compensate=" + self.compensate
        if ctx.calibration is None and needs != "compensate=false":
            raise UserError(
                f"{needs} needs calibration data",
                where=where,
                hint="give --calib (calibration= in Python), or use method=uniform without compensate",
            )
