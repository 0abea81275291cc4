"""Weights in 8 or 4 bits with a scale and a zero point per block of rows; everything else stays in float.

The graph gets DequantizeLinear nodes with a block size in front of products; `fuse` takes the two together
and the target computes them without unpacking the matrix. For models that wait for their weights: one token
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from optc import kernel_rounding, match
from optc.passbase import Context, Feeds
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.sites import Site
from optc.rewrite import opset

from . import adaptive, awq, gptq, hqq, rtn
from .blocks import Blocks
from .second_moments import second_moments

OLDEST = 21  # the operator set whose DequantizeLinear knows blocks and 4 bits
GROUP = 32

__all__ = ["DATA_FREE", "GROUP", "Blocks", "Written", "quantize_weights", "why_not"]

DATA_FREE: Mapping[str, Callable[[np.ndarray, int, int], Blocks]] = {
    "rtn": rtn.quantize,
    "hqq": hqq.quantize,
}


@dataclass(frozen=True)
class Written:
    """What was done.

    Attributes:
        matrices: how many were quantized.
        remarks: by name of the weight, what did not go as usual.
    """

    matrices: int
    remarks: Mapping[str, str] = field(default_factory=dict)


def why_not(model: ir.Model) -> str | None:
    """Why no weight of the model can be quantized this way."""
    if opset(model) >= OLDEST:
        return None
    return f"the operator set of the model is {opset(model)}; DequantizeLinear with blocks needs {OLDEST}"


def quantize_weights(
    model: ir.Model,
    sites: Sequence[Site],
    samples: Iterable[Feeds] | None,
    ctx: Context,
    *,
    bits: int,
    group: int,
    method: str,
) -> Written:
    """Rewrites the weights of products, in place.

    Args:
        sites: products of the main graph; those that share a weight share its codes.
        samples: what gptq and awq learn the inputs from.
        group: rows [K] that share a scale; 0 chooses for each matrix.
        method: rtn, hqq, gptq or awq.
    """
    if method == "awq":
        awq.scale(model, sites, samples or (), ctx, bits=bits, group=group or GROUP)
        sites, method = [site.renewed() for site in sites], "rtn"
    moments = second_moments(model, sites, samples or (), ctx) if method == "gptq" else {}
    remarks = dict[str, str]()
    last: tuple[ir.Value, gptq.Factor] | None = None
    graph, made = Graph(model), dict[tuple[ir.Value, int], ir.Value]()
    for site in ctx.progress(sites, f"weights in {bits} bits"):
        key = (site.weight, site.channels)
        if key not in made:
            matrix = _matrix(site)
            size = group or adaptive.group_size(matrix)
            if method == "gptq":
                seen = moments[site.data]
                if last is None or last[0] is not site.data:
                    last = site.data, gptq.factor(seen)  # one at a time: as large as the moments
                blocks = gptq.quantize(matrix, bits, size, seen, last[1])
                remarks |= _remarks(site, last[1])
            else:
                blocks = DATA_FREE[method](matrix, bits, size)
            made[key] = _dequantized(site, blocks, bits, size, graph)
        site.node.replace_input_with(1, made[key])
    graph.drop_unused()
    return Written(len(made), remarks)


def _remarks(site: Site, factor: gptq.Factor) -> dict[str, str]:
    """What a user should know of a factor that was not to be had with the least damping."""
    if factor.damping == gptq.DAMPING[0]:
        return {}
    if factor.damping is None:
        told = "rounded to nearest: the second moments of its input have no Cholesky factor"
    else:
        told = f"gptq with damping {factor.damping:g}: the second moments of its input are close to singular"
    return {str(site.weight.name): told}


def _matrix(site: Site) -> np.ndarray:
    weight = match.constant(site.weight)
    assert weight is not None
    return (weight.T if site.channels == 0 else weight).astype(np.float32)


def _dequantized(site: Site, blocks: Blocks, bits: int, group: int, graph: Graph) -> ir.Value:
    """The DequantizeLinear of the codes, in front of the first product that reads it."""
    name, turned = str(site.weight.name), site.channels == 0
    dtype = ml_dtypes.uint4 if bits == 4 else np.uint8
    inputs = [
        graph.constant(_turned(blocks.codes, turned).astype(dtype), f"{name}_quantized"),
        graph.constant(_turned(blocks.scales, turned), f"{name}_scale"),
        graph.constant(_turned(blocks.zeros, turned).astype(dtype), f"{name}_zero"),
    ]
    kernel_rounding.allow(inputs[0])
    back = graph.make(
        "DequantizeLinear",
        inputs,
        f"{name}_dequantized",
        ir.DataType.FLOAT,
        site.weight.shape,
        axis=1 if turned else 0,
        block_size=group,
    )
    graph.place_before(site.node, back)
    return back


def _turned(array: np.ndarray, turned: bool) -> np.ndarray:
    return np.ascontiguousarray(array.T if turned else array)
