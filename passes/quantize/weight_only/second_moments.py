"""How the channels of an input go together: the mean of x x^T over calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optc import match, newnode
from optc.newnode import New
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import Probe, observe
from optc.passes.quantize.static.sites import Site


class Moments(Probe):
    """The sum of the outer products of rows (last axis), float64 [K, K]."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.total = np.zeros((width, width))

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """All rows under each other, times themselves."""
        shape = newnode.constant(np.array([-1, self._width], np.int64))
        rows = New("Reshape", (value, shape), ir.DataType.FLOAT, ir.Shape([None, self._width]))
        columns = New(
            "Transpose", (rows,), ir.DataType.FLOAT, ir.Shape([self._width, None]), {"perm": [1, 0]}
        )
        square = ir.Shape([self._width, self._width])
        return [New("MatMul", (columns, rows), ir.DataType.FLOAT, square)]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds one sample."""
        if np.isfinite(arrays[0]).all():
            self.total += arrays[0]


def second_moments(
    model: ir.Model, sites: Sequence[Site], samples: Iterable[Feeds], ctx: Context
) -> dict[ir.Value, np.ndarray]:
    """By input of the sites; the model is still in float."""
    probes: dict[ir.Value, Moments] = {}
    for site in sites:
        width = match.static_dim(site.weight, 1 - site.channels)
        assert width is not None
        probes.setdefault(site.data, Moments(width))
    asked = {str(value.name): [probe] for value, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    return {value: probe.total for value, probe in probes.items()}
