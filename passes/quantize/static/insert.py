"""Writes the int8 region into the graph: pairs around activations, int8 weights, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match

from .before import take_over
from .graph import Graph
from .grid import Grid, quantized_weight, weight_scales
from .region import Region
from .sites import Site

_LARGEST_BIAS = float(2**30)  # of an int32 accumulator, which must hold the products as well


@dataclass(frozen=True)
class Weights:
    """How weights are quantized.

    Attributes:
        per_channel: one scale per output channel instead of one per tensor.
        limit: the largest code.
    """

    per_channel: bool = True
    limit: int = 127


def insert(model: ir.Model, region: Region, grids: Mapping[ir.Value, Grid], weights: Weights) -> None:
    """Quantizes the values, weights and biases of the region, in place.

    ``grids`` has the grid of every value of the region.
    """
    graph = Graph(model)
    scales = {site.node: _scale_of(site.data, grids) for site in region.sites}
    for value, inside in region.values.items():
        if match.is_constant(value):
            _quantize_constant(value, grids[value], region, graph)
        else:
            _quantize_value(value, grids[value], inside, region, graph)
    for site in region.sites:
        quantize_weights(site, scales[site.node], weights, graph)
    graph.drop_unused()


def _scale_of(value: ir.Value, grids: Mapping[ir.Value, Grid]) -> np.float32:
    """The scale that the input of a site has, or has had before."""
    if value in grids:
        return grids[value].scale
    node = match.producer(value, "DequantizeLinear")
    assert node is not None
    return np.float32(match.scalar(node.inputs[1]))


def _quantize_value(value: ir.Value, grid: Grid, inside: bool, region: Region, graph: Graph) -> None:
    """Puts a pair behind ``value``; the region, or all where the value is made in int8, reads the pair."""
    name, shape = str(value.name), value.shape
    scale = graph.constant(np.array(grid.scale, np.float32), f"{name}_scale")
    zero = graph.constant(np.array(grid.zero, np.uint8), f"{name}_zero")
    codes = graph.make("QuantizeLinear", [value, scale, zero], f"{name}_quantized", ir.DataType.UINT8, shape)
    back = graph.make(
        "DequantizeLinear", [codes, scale, zero], f"{name}_dequantized", ir.DataType.FLOAT, shape
    )
    graph.place_behind(value, codes, back)
    take_over(value, grid, codes, graph)
    if inside:
        graph.replace(value, back, but=codes.producer())
    else:
        _lead(value, back, region)


def _quantize_constant(value: ir.Value, grid: Grid, region: Region, graph: Graph) -> None:
    array, name = match.constant(value), str(value.name)
    assert array is not None
    codes = np.clip(np.rint(array / grid.scale) + grid.zero, 0, 255).astype(np.uint8)
    inputs = [
        graph.constant(codes, f"{name}_quantized"),
        graph.constant(np.array(grid.scale, np.float32), f"{name}_scale"),
        graph.constant(np.array(grid.zero, np.uint8), f"{name}_zero"),
    ]
    back = graph.make("DequantizeLinear", inputs, f"{name}_dequantized", ir.DataType.FLOAT, value.shape)
    graph.place_behind(value, back)
    _lead(value, back, region)


def _lead(value: ir.Value, back: ir.Value, region: Region) -> None:
    """Makes the readers in the region read ``back``."""
    nodes = {site.node for site in region.sites} | region.carriers
    for reader, index in value.uses():
        if reader in nodes and (reader in region.carriers or index == 0):
            reader.replace_input_with(index, back)


def quantize_weights(site: Site, data_scale: np.float32, weights: Weights, graph: Graph) -> None:
    """Gives a site, whose input lies on a grid of that scale, codes for its weight and its bias."""
    weight = match.constant(site.weight)
    bias = match.constant(site.bias)
    assert weight is not None
    axis = site.channels if weights.per_channel else None
    room = 0.0 if bias is None else np.abs(bias).astype(np.float64) / (data_scale * _LARGEST_BIAS)
    scales = weight_scales(
        weight, axis, limit=weights.limit, at_least=room if axis is not None else np.max(room, initial=0.0)
    )
    codes = quantized_weight(weight, scales, axis, limit=weights.limit)
    quantized = _constant_back(site, site.weight, codes, scales, axis, graph)
    site.node.replace_input_with(1, quantized)
    if site.bias is None or bias is None:
        return
    product = (data_scale * np.broadcast_to(scales, bias.shape)).astype(np.float32)
    sums = np.rint(bias.astype(np.float64) / product).astype(np.int32)
    site.node.replace_input_with(2, _constant_back(site, site.bias, sums, product, 0, graph))


def _constant_back(
    site: Site, old: ir.Value, codes: np.ndarray, scales: np.ndarray, axis: int | None, graph: Graph
) -> ir.Value:
    """The DequantizeLinear of new codes for a weight or bias of the site."""
    name = str(old.name)
    inputs = [
        graph.constant(codes, f"{name}_quantized"),
        graph.constant(scales, f"{name}_scale"),
        graph.constant(np.zeros(scales.shape, codes.dtype), f"{name}_zero"),
    ]
    attributes = {} if axis is None else {"axis": axis}
    back = graph.make(
        "DequantizeLinear", inputs, f"{name}_dequantized", ir.DataType.FLOAT, old.shape, **attributes
    )
    graph.place_before(site.node, back)
    return back
