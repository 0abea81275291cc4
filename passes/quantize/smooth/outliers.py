"""A few channels that are many times larger than all others are multiplied in float, beside the int8 product.

Behind the activation of an MLP a single neuron can be 5 times as large as the next: smoothing cannot help,
because its weights are as large (Dettmers et al., "LLM.int8(): 8-bit matrix multiplication for
transformers at scale", NeurIPS 2022; here the channels are chosen when compiling).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passes.fuse._bias import bias_add
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.grid import along

from . import fold
from .choose import Choice
from .groups import Group


def take_out(group: Group, choice: Choice, graph: Graph) -> None:
    """Rewrites ``x W`` as ``(x / factors) (factors W) + x[outliers] W[outliers]``, in place.

    The first product has zeros in place of the outliers; it stays the site.
    """
    [site] = group.sites
    weight, name = match.constant(site.weight), str(site.weight.name)
    assert weight is not None
    matrix = weight.T if site.channels == 0 else weight
    rows = graph.constant(np.ascontiguousarray(matrix[choice.outliers]), f"{name}_outliers")
    picked = graph.constant(choice.outliers.astype(np.int64), f"{name}_outlier_channels")
    x, result = group.data, _biased(site.output)
    _add_product(x, picked, rows, result, graph)
    factors = choice.factors.copy()
    factors[choice.outliers] = 0.0
    rest = (weight * along(factors, 1 - site.channels, 2)).astype(weight.dtype)
    site.node.replace_input_with(1, graph.constant(rest, f"{name}_rest"))
    factors[choice.outliers] = np.inf
    fold.by_node(group, factors, graph)


def _biased(output: ir.Value) -> ir.Value:
    """The product with its bias: the kernels add both at once."""
    found = bias_add(output)
    return output if found is None else found[0].outputs[0]


def _add_product(x: ir.Value, picked: ir.Value, rows: ir.Value, result: ir.Value, graph: Graph) -> None:
    count = match.static_dim(picked, 0)
    assert x.shape is not None
    some = ir.Shape([*x.shape[:-1], count])
    name, dtype, last = str(result.name), ir.DataType.FLOAT, x.shape.rank() - 1
    columns = graph.make("Gather", [x, picked], f"{name}_outliers", dtype, some, axis=last)
    product = graph.make("MatMul", [columns, rows], f"{name}_of_outliers", dtype, result.shape)
    total = graph.make("Add", [result, product], f"{name}_with_outliers", dtype, result.shape)
    graph.place_behind(result, columns, product, total)
    graph.replace(result, total, but=total.producer())
