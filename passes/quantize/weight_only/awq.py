"""AWQ: rows of the weight that meet large inputs are rounded more finely.

Input channels are divided by a power of their size, and the rows of the weights multiplied, with the power
that makes the error of the product least; only where the division folds into what computes the input (Lin et
al., "AWQ: activation-aware weight quantization for LLM compression and acceleration", MLSys 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import observe
from optc.passes.quantize.smooth import fold
from optc.passes.quantize.smooth.groups import groups_of
from optc.passes.quantize.smooth.statistics import Channels
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.sites import Site

from . import rtn

_POWERS = np.arange(20) / 20
_LEAST = 1e-4  # of a channel, relative to the mean


def scale(
    model: ir.Model, sites: Sequence[Site], samples: Iterable[Feeds], ctx: Context, *, bits: int, group: int
) -> int:
    """Rescales inputs and weights of the sites, in place and exact in float; returns for how many inputs."""
    groups = [group_ for group_ in groups_of(sites) if fold.edits_for(group_) is not None]
    probes = {str(each.data.name): Channels() for each in groups}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph, count = Graph(model), 0
    for each in groups:
        seen = probes[str(each.data.name)]
        if not seen.usable:
            continue
        factors = best_factors(np.sqrt(seen.squares), each.matrix(), bits, group)
        if fold.into_producer(each, 1 / factors, graph):
            each.multiply_rows(1 / factors, graph)
            count += 1
    graph.drop_unused()
    return count


def best_factors(size: np.ndarray, matrix: np.ndarray, bits: int, group: int) -> np.ndarray:
    """What rows of a matrix [K, N] are divided by, float64 [K]; ``size`` is that of the input channels."""
    relative = np.maximum(size / max(float(size.mean()), 1e-30), _LEAST)

    def error(power: float) -> float:
        factors = _normalized(relative**-power)
        scaled = (matrix / factors[:, None]).astype(np.float32)
        off = (rtn.quantize(scaled, bits, group).matrix(group) - scaled) * (factors * relative)[:, None]
        return float(np.sum(off * off))

    return _normalized(relative ** -min(_POWERS, key=error))


def _normalized(factors: np.ndarray) -> np.ndarray:
    return np.asarray(factors / np.sqrt(factors.max() * factors.min()))
