"""Weights of dynamic int8 rounded with error feedback, where the channels of an input go together.

Behind the activation of an MLP, channels are functions of a few times fewer numbers, so what rounding one
weight loses can be made up for by others: GPTQ (Frantar et al., ICLR 2023; see `weight_only/gptq.py`). How
channels go together is estimated from few rows, and what looks like it may be chance. So covariances are
shrunk towards independence by as much as the number of rows says (Chen et al., "Shrinkage algorithms for MMSE
covariance estimation", IEEE Transactions on Signal Processing 2010: OAS), and where little is left to gain,
weights are rounded to nearest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import onnx_ir as ir

from optc import match
from optc.newnode import New
from optc.passbase import Context, Feeds

from .calibration import observe
from .calibration.probes import reduction
from .rounding import Lattice, Rounding, lattice, matrix
from .static.sites import Site
from .weight_only.second_moments import Moments

_WORTH_IT = 0.9  # of the expected squared error must be left at most
_WIDEST = 4096  # channels of an input: the work grows with the third power
_TOGETHER = 2**25  # elements of all covariances that are taken in one run of the model
_SAMPLES = 32  # that covariances are taken from
_BLOCK = 128  # rows whose feedback to the others is computed at once
_LEAST = 0.2  # of the covariances are given up in any case: inputs to come may be of another kind
_FLOOR = 1e-3  # of the mean variance, which every channel has at least


def learn(
    model: ir.Model, sites: Sequence[Site], samples: Iterable[Feeds], ctx: Context, rounding: Rounding
) -> int:
    """Gives ``rounding`` better codes for weights of sites and returns of how many; the model is not changed.

    Args:
        sites: products of the main graph, still in float.
        samples: what covariances are learned from; the first few are enough.
    """
    by_input: dict[ir.Value, list[Site]] = {}
    for site in sites:
        width = match.static_dim(site.weight, 1 - site.channels)
        if width is not None and width <= _WIDEST and _has_one_reader(site):
            by_input.setdefault(site.data, []).append(site)
    few, count = list(islice(samples, _SAMPLES)), 0
    for inputs in _chunks(by_input):
        spreads = {value: Spread(width) for value, width in inputs.items()}
        asked = {str(value.name): [spread] for value, spread in spreads.items()}
        observe(model, asked, few, threads=ctx.threads, progress=ctx.progress)
        for value in inputs:
            upper = feedback(spreads.pop(value))
            if upper is None:
                continue
            for site in by_input[value]:
                weights = matrix(site)
                grid = lattice(weights, per_channel=rounding.per_channel, limit=rounding.limit)
                rounding.take(site, rounded(weights, grid, upper), grid)
                count += 1
    return count


class Spread(Moments):
    """The second moments of the channels of a value, their means, and the number of rows."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.sums = np.zeros(width)
        self.rows = 0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """Beside the moments the means, and the number of elements."""
        mean = reduction("ReduceMean", value, -1, opset)
        return [*super().nodes(value, opset), mean, New("Size", (value,), ir.DataType.INT64, ir.Shape([]))]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds one sample; one that is empty or not finite says nothing."""
        moments, mean, size = arrays
        if int(size) == 0 or not np.isfinite(moments).all():
            return
        super().update([moments])
        rows = int(size) // len(self.sums)
        self.sums += mean.astype(np.float64) * rows
        self.rows += rows


def feedback(seen: Spread) -> np.ndarray | None:
    """How errors spread from row to row: the upper Cholesky factor of the inverse of the moments, float32.

    None where rounding to nearest is as good.
    """
    if seen.rows < 2:
        return None
    mean = seen.sums / seen.rows
    moments = seen.total / seen.rows
    moments -= np.outer(mean, mean)
    variances = np.maximum(np.diag(moments), 0.0)
    typical = float(variances.mean())
    if not np.isfinite(typical) or typical <= 0.0:
        return None
    variances = variances + _FLOOR * typical
    moments *= 1.0 - max(shrinkage(moments, variances, seen.rows), _LEAST)
    moments[np.diag_indices(len(mean))] = variances
    moments += np.outer(mean, mean)  # the mean of other inputs may be another: not the bias alone takes it up
    try:
        upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    except np.linalg.LinAlgError:
        return None
    left = float(np.sum(np.diag(upper) ** -2.0)) / float(variances.sum())
    return np.asarray(upper, np.float32) if left < _WORTH_IT else None


def shrinkage(covariances: np.ndarray, variances: np.ndarray, rows: int) -> float:
    """How much of the covariances (0 to 1) is taken for chance; a singular estimate always loses some."""
    width = len(variances)
    deviations = np.sqrt(variances)
    squares = float(np.sum((covariances / deviations / deviations[:, None]) ** 2))
    over = (rows + 1 - 2 / width) * (squares - width)
    return 1.0 if over <= 0 else min(((1 - 2 / width) * squares + width**2) / over, 1.0)


def rounded(weights: np.ndarray, grid: Lattice, upper: np.ndarray) -> np.ndarray:
    """The codes of a matrix [K, N]: rows are rounded in turn, and what each loses goes to those behind it."""
    left, codes = weights.copy(), np.zeros(weights.shape, np.float32)
    for start in range(0, len(left), _BLOCK):
        stop = min(start + _BLOCK, len(left))
        errors = np.zeros((stop - start, left.shape[1]), np.float32)
        for row in range(start, stop):
            codes[row] = grid.codes(left[row])
            error = (left[row] - grid.numbers(codes[row])) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], error)
            errors[row - start] = error
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return codes


def _has_one_reader(site: Site) -> bool:
    """Codes that suit one input may not suit another."""
    return match.has_one_reader(site.weight)


def _chunks(by_input: dict[ir.Value, list[Site]]) -> Iterator[dict[ir.Value, int]]:
    """Inputs with their widths, as many together as memory allows."""
    chunk, elements = dict[ir.Value, int](), 0
    for value, sites in by_input.items():
        width = match.static_dim(sites[0].weight, 1 - sites[0].channels)
        assert width is not None
        if chunk and elements + width**2 > _TOGETHER:
            yield chunk
            chunk, elements = {}, 0
        chunk[value] = width
        elements += width**2
    if chunk:
        yield chunk
