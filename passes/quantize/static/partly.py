"""Static int8 around some of the sites of a model, with the ranges that were found once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from optc.analysis import shapes
from optc.passbase import Context, Feeds

from . import equalize, pooling, region, sites
from .grids import grids, seen
from .insert import Weights, insert
from .settings import Settings


class StaticPart:
    """Makes models that are like what `quantize_static` makes, without its bias correction.

    Args:
        model: without fused functions; it is not changed.
        samples: calibration data, gone through once for all models (again for values that only lie at the
            border of a smaller region).
    """

    def __init__(
        self, model: ir.Model, samples: Iterable[Feeds], ctx: Context, settings: Settings, limit: int
    ) -> None:
        self._samples, self._ctx, self._settings = samples, ctx, settings
        self._weights = Weights(settings.per_channel, limit)
        self._model = model.clone()
        shapes.infer(self._model)
        chosen = [site for site in sites.find(self._model)[0] if settings.leave(site) is None]
        pooling.pool(self._model)
        if settings.equalize:
            equalize.equalize(self._model, chosen, samples, ctx)
        self._ranges: dict[str, tuple[float, float]] = {}
        self._observe(region.plan(self._model, [site.renewed() for site in chosen]), self._model)

    def of(self, names: Collection[str]) -> ir.Model:
        """The model with int8 around the sites of these names, but for those that meet infinity."""
        copy = self._model.clone()
        area = region.plan(copy, [site for site in sites.find(copy)[0] if site.name in names])
        self._observe(area, copy)
        while left_out := area.beside([v for v in area.observed if not np.isfinite(self._range(v)).all()]):
            area = region.plan(copy, [site for site in area.sites if site not in left_out])
            self._observe(area, copy)
        ranges = {value: self._range(value) for value in area.observed}
        insert(copy, area, grids(area, ranges), self._weights)
        return copy

    def _range(self, value: ir.Value) -> tuple[float, float]:
        return self._ranges[str(value.name)]

    def _observe(self, area: region.Region, model: ir.Model) -> None:
        new = [value for value in area.observed if str(value.name) not in self._ranges]
        found = seen(model, new, self._samples, self._settings, self._ctx)
        self._ranges |= {str(value.name): limits for value, limits in found.items()}
