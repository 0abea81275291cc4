"""Adds a vector to the output of a product, in a constant that is added already where there is one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passes.fuse._bias import bias_add

from .graph import Graph
from .sites import Site


def is_free(site: Site) -> bool:
    """Whether shifting the output costs no node: it has a bias, or its operator takes one."""
    return site.node.op_type != "MatMul" or bias_add(site.output) is not None


def shift(site: Site, by: np.ndarray, graph: Graph, why: str) -> None:
    """Adds ``by`` [channels] to the output of a site, in place; ``why`` becomes part of a name."""
    node, index, old = site.node, 2, site.bias
    # A vector is added along the last axis, which is not that of a convolution's channels.
    if old is None and not site.is_convolution and (found := bias_add(site.output)) is not None:
        node, old = found
        index = 1 if node.inputs[1] is old else 0
    bias = match.constant(old)
    shifted = (by if bias is None else bias.astype(np.float64) + by).astype(np.float32)
    name = f"{site.weight.name}_bias" if old is None else str(old.name)
    value = graph.constant(shifted, f"{name}_{why}")
    if old is None and site.node.op_type == "MatMul":
        _add_behind(site, value, graph, why)
        return
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _add_behind(site: Site, bias: ir.Value, graph: Graph, why: str) -> None:
    old = site.output
    biased = graph.make("Add", [old, bias], f"{old.name}_{why}", ir.DataType.FLOAT, old.shape)
    graph.place_behind(old, biased)
    graph.replace(old, biased, but=biased.producer())
