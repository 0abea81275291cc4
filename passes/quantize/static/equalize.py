"""Cross-layer equalization: channels of small range get more of the grid that they share with large ones.

Between two convolutions (or products) through operators that commute with positive factors per channel, such
as Relu, the first may be divided by a factor per channel and the second multiplied by it (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", ICCV 2019). Weights with a scale per
channel make the division free, and the multiplication too where the second is depthwise; so the factors come
from the ranges of the activations, as in SmoothQuant (Xiao et al., ICML 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import Extremes, observe

from .graph import Graph
from .grid import along
from .limits import bounds
from .sites import Site

_COMMUTING = ("Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")
_MOST = 32.0  # how much more than the largest channel another one may be enlarged
_SHARE = 0.5  # of the ranges of dense weights that activations take over
_HEADROOM = 1.1  # above the values seen, to the upper bound of a Clip


@dataclass(frozen=True)
class Pair:
    """Two sites; ``between`` is what the first gives to the second, behind its Relu or Clip.

    ``limit`` is the smallest upper bound in between: what is enlarged must not reach it.
    """

    first: Site
    second: Site
    between: ir.Value
    limit: float


def equalize(model: ir.Model, sites: Sequence[Site], samples: Iterable[Feeds], ctx: Context) -> int:
    """Rescales the weights and biases of all pairs of sites, in place; returns how many pairs there were.

    Exact in float on all that calibration saw: a Clip keeps its bounds, which rescaled values stay within.
    """
    pairs = find(sites)
    probes = {str(pair.between.name): Extremes(1) for pair in pairs}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph, count = Graph(model), 0
    for pair in pairs:
        probe = probes[str(pair.between.name)]
        if probe.finite and probe.magnitude.any():
            _rescale(pair, factors(pair, probe.magnitude), graph)
            count += 1
    graph.drop_unused()
    return count


def find(sites: Sequence[Site]) -> list[Pair]:
    """The pairs, in graph order of their first sites."""
    by_node = {site.node: site for site in sites}
    return [pair for site in sites if (pair := _behind(site, by_node)) is not None]


def _behind(site: Site, by_node: Mapping[ir.Node, Site]) -> Pair | None:
    value, limit, between = site.output, np.inf, site.output
    rank = match.rank(value)
    if rank is None or (rank != 2 and not site.is_convolution):
        return None  # the channels of a product of higher rank are not along axis 1
    while (reader := match.only_reader(value)) is not None:
        second = by_node.get(reader)
        if second is not None:
            same = second.data is value and second.is_convolution == site.is_convolution
            return Pair(site, second, between, limit) if same else None
        if not match.is_op(reader, *_COMMUTING) or len(reader.outputs) != 1:
            return None
        if reader.op_type == "Clip":
            low, high = bounds(reader)
            if low != 0.0 or between is not site.output:
                return None
            limit = min(limit, high)
        value = reader.outputs[0]
        if reader.op_type in ("Relu", "LeakyRelu", "Clip"):
            between = value
    return None


def factors(pair: Pair, magnitude: np.ndarray) -> np.ndarray:
    """What to divide the channels of the first site by, float64: at most 1 where there is a bound.

    Args:
        magnitude: the largest absolute value of each channel in between.
    """
    seen = np.maximum(magnitude, magnitude.max() / _MOST)
    if _is_depthwise(pair.second):
        wanted = seen
    else:
        weight = np.abs(_by_input(pair.second)).max(axis=0)
        wanted = seen**_SHARE / np.maximum(weight, weight.max() / _MOST + 1e-30) ** (1 - _SHARE)
    wanted = wanted / wanted.max()
    if np.isfinite(pair.limit):
        wanted = np.minimum(np.maximum(wanted, _HEADROOM * magnitude / pair.limit), 1.0)
    return np.asarray(wanted)


def _is_depthwise(site: Site) -> bool:
    return site.is_convolution and match.static_dim(site.weight, 1) == 1


def _by_input(site: Site) -> np.ndarray:
    """The weight as [all else, input channels]."""
    weight = match.constant(site.weight)
    assert weight is not None
    if not site.is_convolution:
        return weight.T if site.channels == 1 else weight
    groups = match.attr_int(site.node, "group", 1)
    rows = weight.shape[0] // groups
    split = np.moveaxis(weight.reshape(groups, rows, *weight.shape[1:]), 2, 1)
    return split.reshape(groups * weight.shape[1], -1).T


def _rescale(pair: Pair, factor: np.ndarray, graph: Graph) -> None:
    first, second = pair.first, pair.second
    rank = first.weight.shape.rank() if first.weight.shape is not None else 2
    _set(first, 1, match.constant(first.node.inputs[1]), 1 / along(factor, first.channels, rank), graph)
    if first.bias is not None:
        _set(first, 2, match.constant(first.node.inputs[2]), 1 / factor, graph)
    _set(second, 1, match.constant(second.node.inputs[1]), _to_inputs(second, factor), graph)


def _to_inputs(site: Site, factor: np.ndarray) -> np.ndarray:
    """Factors per input channel, shaped like the weight's first axes."""
    if not site.is_convolution:
        return along(factor, 1 - site.channels, 2)
    assert site.weight.shape is not None
    rows, columns = site.weight.shape.numpy()[:2]
    groups = match.attr_int(site.node, "group", 1)
    table = np.repeat(factor.reshape(groups, 1, columns), rows // groups, axis=1).reshape(rows, columns)
    return table.reshape(rows, columns, *([1] * (site.weight.shape.rank() - 2)))


def _set(site: Site, index: int, old: np.ndarray | None, factor: np.ndarray, graph: Graph) -> None:
    value = site.node.inputs[index]
    assert old is not None and value is not None
    scaled = (old.astype(np.float64) * factor).astype(old.dtype)
    site.node.replace_input_with(index, graph.constant(scaled, f"{value.name}_equalized"))
