"""Bias correction: the mean error that rounding weights and inputs makes is taken out of the bias.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section
4.2, in its empirical form: each site is run in float and on its grids on the same calibration data, all of
them in one run, and the mean difference per output channel goes into the bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optc import match, newnode
from optc.newnode import New, Operand
from optc.passbase import Context, Feeds
from optc.passes.fuse._bias import bias_add
from optc.passes.quantize.calibration import Mean, observe
from optc.passes.quantize.calibration.probes import reduction

from .graph import Graph
from .grid import Grid, along, quantized_weight, weight_scales
from .insert import Weights
from .shift import is_free, shift
from .sites import Site


class _SiteError(Mean):
    """The mean of a site's output on its grids less that in float, per output channel."""

    def __init__(self, site: Site, grid: Grid, weights: Weights) -> None:
        super().__init__(site.output_axis)
        self._site, self._grid, self._weights = site, grid, weights

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """The site again behind a rounded input and with rounded weights, and the mean of the difference."""
        node = value.producer()
        assert node is not None and node.inputs[0] is not None
        rounded = self._rounded(node.inputs[0])
        inputs: list[Operand | None] = [rounded, newnode.constant(self._rounded_weight()), *node.inputs[2:]]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        again = New(node.op_type, tuple(inputs), ir.DataType.FLOAT, value.shape, attributes)
        off = New("Sub", (again, value), ir.DataType.FLOAT, value.shape)
        return [reduction("ReduceMean", off, self.axis, opset)]

    def _rounded(self, data: ir.Value) -> New:
        scale = newnode.constant(np.array(self._grid.scale, np.float32))
        zero = newnode.constant(np.array(self._grid.zero, np.uint8))
        codes = New("QuantizeLinear", (data, scale, zero), ir.DataType.UINT8, data.shape)
        return New("DequantizeLinear", (codes, scale, zero), ir.DataType.FLOAT, data.shape)

    def _rounded_weight(self) -> np.ndarray:
        weight = match.constant(self._site.weight)
        assert weight is not None
        axis, limit = (self._site.channels if self._weights.per_channel else None), self._weights.limit
        scales = weight_scales(weight, axis, limit=limit)
        codes = quantized_weight(weight, scales, axis, limit=limit)
        return np.asarray(codes * along(scales, axis, weight.ndim), np.float32)


def correct(
    model: ir.Model,
    sites: Sequence[Site],
    grids: Mapping[ir.Value, Grid],
    weights: Weights,
    samples: Iterable[Feeds],
    ctx: Context,
) -> int:
    """Changes the biases of the sites, in place; returns how many.

    A site without a bias gets one where its operator takes one, so no node is added; and none in int8 is
    changed. The model is still in float.
    """
    known = [site for site in sites if site.data in grids and site.output.shape is not None]
    fitting = [site for site in known if is_free(site) and not _is_in_int8(site, grids)]
    probes = {str(site.output.name): _SiteError(site, grids[site.data], weights) for site in fitting}
    observe(
        model,
        {name: [probe] for name, probe in probes.items()},
        samples,
        threads=ctx.threads,
        progress=ctx.progress,
    )
    graph = Graph(model)
    for site in fitting:
        mean = probes[str(site.output.name)].mean
        if np.isfinite(mean).all():
            shift(site, -mean, graph, "corrected")
    graph.drop_unused()
    return len(fitting)


def _is_in_int8(site: Site, grids: Mapping[ir.Value, Grid]) -> bool:
    """Whether the bias behind a site is added in int8."""
    found = bias_add(site.output) if site.node.op_type == "MatMul" else None
    return found is not None and found[1] in grids
