"""Dynamic int8: weights are int8 codes, and every input is rounded to uint8 by its own range when it arrives.

The graph gets plain ONNX nodes (DynamicQuantizeLinear, MatMulInteger, Cast, Mul, Add), whose unoptimized
execution is the reference; `fuse` outlines them and the target has kernels for the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis.shapes import UNKNOWN_KEY
from optc.rewrite import opset

from .rounding import Rounding
from .static import saturation
from .static.before import grid_of
from .static.graph import Graph
from .static.grid import Grid
from .static.insert import Weights, quantize_weights
from .static.sites import Site

OLDEST = 11  # the operator set with DynamicQuantizeLinear
PER_AXIS = 13  # that since which DequantizeLinear knows a scale per channel


def why_not(model: ir.Model) -> str | None:
    """Why no site of the model can be quantized this way."""
    if opset(model) >= OLDEST:
        return None
    return f"the operator set of the model is {opset(model)}; DynamicQuantizeLinear needs {OLDEST}"


def given_grid(model: ir.Model, site: Site) -> Grid | None:
    """The grid that the model itself has rounded the input of a site to: its codes serve as they are."""
    if opset(model) < PER_AXIS:
        return None
    back = match.producer(site.data, "DequantizeLinear")
    return grid_of(back) or _grid_of_int8(back)


def _grid_of_int8(back: ir.Node | None) -> Grid | None:
    """The same grid in uint8, where the codes are int8 and made here: the same numbers, 128 higher."""
    if back is None or match.producer(back.inputs[0], "QuantizeLinear") is None:
        return None
    scale, zero = [*back.inputs[1:], None][:2]
    step, middle = match.scalar(scale), match.scalar(zero)
    if step is None or middle is None or zero is None or zero.dtype != ir.DataType.INT8:
        return None
    return Grid(np.float32(step), int(middle) + 128)


def insert(
    model: ir.Model, sites: Sequence[Site], *, per_channel: bool = True, rounding: Rounding | None = None
) -> None:
    """Rewrites products with constant matrices in place.

    ``y = x W + b`` becomes ``(codes(x) codes(W)) * (scale(x) * scale(W)) + b`` with one scale and zero point
    per output channel of W (or one in all), and one for each x.

    Args:
        per_channel: where no ``rounding`` is given.
        rounding: of the weights; None: to nearest.
    """
    writer = _Writer(model, rounding or Rounding(per_channel, saturation.largest_code()))
    for site in sites:
        writer.rewrite(site)
    writer.graph.drop_unused()


class _Writer:
    """The edits of one model; weights with several readers are quantized once."""

    def __init__(self, model: ir.Model, rounding: Rounding) -> None:
        self.model, self.graph = model, Graph(model)
        self.rounding = rounding
        self._weights: dict[tuple[ir.Value, int], tuple[ir.Value, ir.Value, ir.Value]] = {}
        self._inputs: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}

    def rewrite(self, site: Site) -> None:
        site = site.renewed()  # its input may be the product of a site before it
        if (grid := given_grid(self.model, site)) is not None:
            self._to_uint8(site, grid)
            weights = Weights(self.rounding.per_channel, self.rounding.limit)
            quantize_weights(site.renewed(), grid.scale, weights, self.graph)
            return
        node, x, old = site.node, site.data, site.output
        name, like = str(old.name), old.shape
        codes, scale, zero = self._input(x)
        weight, weight_scale, weight_zero = self._weight(site)
        to_float = int(ir.DataType.FLOAT)
        make = self.graph.make
        sums = make(
            "MatMulInteger", [codes, weight, zero, weight_zero], f"{name}_sums", ir.DataType.INT32, like
        )
        sums_float = make("Cast", [sums], f"{name}_cast", ir.DataType.FLOAT, like, to=to_float)
        step = make("Mul", [scale, weight_scale], f"{name}_step", ir.DataType.FLOAT, weight_scale.shape)
        made = [sums, sums_float, step]
        made.append(make("Mul", [sums_float, step], f"{name}_product", ir.DataType.FLOAT, like))
        if site.bias is not None:
            made.append(make("Add", [made[-1], site.bias], f"{name}_biased", ir.DataType.FLOAT, like))
        self.graph.place_before(node, *made)
        self.graph.replace(old, made[-1])
        self.graph.remove(node)

    def _to_uint8(self, site: Site, grid: Grid) -> None:
        """What reads int8 codes of that grid reads uint8 ones, which the kernels are made for."""
        back = match.producer(site.data, "DequantizeLinear")
        assert back is not None and back.inputs[0] is not None
        rounding = match.producer(back.inputs[0], "QuantizeLinear")
        if back.inputs[0].dtype != ir.DataType.INT8 or rounding is None:
            return
        name, shape, dtype = str(site.data.name), site.data.shape, ir.DataType.UINT8
        scale = self.graph.constant(np.array(grid.scale, np.float32), f"{name}_scale")
        zero = self.graph.constant(np.array(grid.zero, np.uint8), f"{name}_zero")
        make = self.graph.make
        codes = make("QuantizeLinear", [rounding.inputs[0], scale, zero], f"{name}_quantized", dtype, shape)
        again = make(
            "DequantizeLinear", [codes, scale, zero], f"{name}_dequantized", ir.DataType.FLOAT, shape
        )
        self.graph.place_behind(site.data, codes, again)
        self.graph.replace(site.data, again)
        self.graph.remove(back)
        if not rounding.outputs[0].uses() and not rounding.outputs[0].is_graph_output():
            self.graph.remove(rounding)

    def _input(self, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Codes, scale and zero point of an input, computed where it becomes known, once."""
        if x not in self._inputs:
            name, one = str(x.name), ir.Shape([])
            codes = self._value(f"{name}_codes", ir.DataType.UINT8, x.shape)
            scale = self._value(f"{name}_scale", ir.DataType.FLOAT, one)
            zero = self._value(f"{name}_zero", ir.DataType.UINT8, one)
            node_name = self.graph.fresh(f"{name}_codes_node")
            ir.node("DynamicQuantizeLinear", [x], outputs=[codes, scale, zero], name=node_name)
            self.graph.place_behind(x, codes)
            self._inputs[x] = (codes, scale, zero)
        return self._inputs[x]

    def _value(self, hint: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        value = ir.Value(name=self.graph.fresh(hint), type=ir.TensorType(dtype), shape=shape)
        if shape is None:
            value.meta[UNKNOWN_KEY] = True
        return value

    def _weight(self, site: Site) -> tuple[ir.Value, ir.Value, ir.Value]:
        """int8 codes [K, N], the scale and the zero point, [N] or a scalar."""
        key = (site.weight, site.channels)
        if key not in self._weights:
            codes, name = self.rounding.of(site), str(site.weight.name)
            self._weights[key] = (
                self.graph.constant(np.ascontiguousarray(codes.array), f"{name}_quantized"),
                self.graph.constant(codes.lattice.scales, f"{name}_scale"),
                self.graph.constant(codes.lattice.zeros, f"{name}_zero"),
            )
        return self._weights[key]
