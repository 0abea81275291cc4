"""Bias correction of dynamic int8: what rounding adds to each output channel on average goes into the bias.

Rounding is not fair to small values: behind a GELU most of a channel may round to zero, always from the same
side (Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019). A
bias is free in the kernels, also where there was none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optc import newnode
from optc.newnode import New, Operand
from optc.passbase import Context, Feeds

from .calibration import Probe, observe
from .calibration.probes import reduction
from .rounding import Rounding
from .rows import inverse_power
from .static.graph import Graph
from .static.shift import shift
from .static.sites import Site

_LEAST = 1e-20


def correct(
    model: ir.Model,
    sites: Sequence[Site],
    samples: Iterable[Feeds],
    ctx: Context,
    rounding: Rounding,
) -> int:
    """Changes the biases of sites that will be quantized dynamically, in place; returns how many.

    The sites are products of the main graph, still in float.
    """
    probes = {str(site.output.name): SiteError(site, rounding) for site in sites}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph, count = Graph(model), 0
    for site in sites:
        mean = probes[str(site.output.name)].mean
        if mean is not None and np.isfinite(mean).all():
            shift(site, -mean, graph, "corrected")
            count += 1
    graph.drop_unused()
    return count


class SiteError(Probe):
    """The product of rounded operands less that in float, its mean per output channel over the rows.

    Rows are weighted by the reciprocal of their power: see :mod:`.rows`.
    """

    def __init__(self, site: Site, rounding: Rounding) -> None:
        self._site, self._rounding = site, rounding
        self._sum: np.ndarray | float = 0.0
        self._weight = 0.0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """The site again behind a rounded input and with rounded weights, and the mean of the difference."""
        node = value.producer()
        assert node is not None and node.inputs[0] is not None
        inputs: list[Operand | None] = [
            _rounded(node.inputs[0], opset),
            newnode.constant(self._rounded_weight()),
            *node.inputs[2:],
        ]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        again = New(node.op_type, tuple(inputs), ir.DataType.FLOAT, value.shape, attributes)
        off = New("Sub", (again, value), ir.DataType.FLOAT, value.shape)
        inverse = inverse_power(value, opset)
        weighted = New("Mul", (off, inverse), ir.DataType.FLOAT, value.shape)
        return [
            reduction("ReduceMean", weighted, -1, opset),
            reduction("ReduceMean", inverse, None, opset),
        ]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds one sample; one without rows says nothing."""
        weighted, inverse = arrays[0].astype(np.float64), float(arrays[1])
        if np.isnan(inverse):
            return
        self._sum = self._sum + weighted
        self._weight += inverse

    @property
    def mean(self) -> np.ndarray | None:
        """float64 [channels], or None when nothing was seen."""
        return np.asarray(self._sum) / self._weight if self._weight > _LEAST else None

    def _rounded_weight(self) -> np.ndarray:
        rounded = self._rounding.of(self._site).matrix()
        return np.ascontiguousarray(rounded.T) if self._site.channels == 0 else rounded


def _rounded(data: ir.Value, version: int) -> New:
    """What DynamicQuantizeLinear leaves of a value."""
    zero = newnode.constant(np.array(0.0, np.float32))
    low = _number("Min", reduction("ReduceMin", data, None, version), zero)
    high = _number("Max", reduction("ReduceMax", data, None, version), zero)
    tiny = newnode.constant(np.array(np.finfo(np.float32).tiny, np.float32))
    steps = newnode.constant(np.array(255.0, np.float32))
    scale = _number("Max", _number("Div", _number("Sub", high, low), steps), tiny)
    offset = _number("Round", _number("Neg", _number("Div", low, scale)))
    to_codes = {"to": int(ir.DataType.UINT8)}
    offset = New("Cast", (offset,), ir.DataType.UINT8, ir.Shape([]), to_codes)
    codes = New("QuantizeLinear", (data, scale, offset), ir.DataType.UINT8, data.shape)
    return New("DequantizeLinear", (codes, scale, offset), ir.DataType.FLOAT, data.shape)


def _number(op_type: str, *inputs: Operand) -> New:
    return New(op_type, inputs, ir.DataType.FLOAT, ir.Shape([]))
