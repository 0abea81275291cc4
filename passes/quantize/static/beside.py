"""Small products beside the part of a network that runs in int8: a table next to an image, say.

Where the input of a small product does not come out of int8, rounding it costs more than is gained, and its
range is one more thing to get wrong: a few numbers with heavy tails are what few samples tell least about.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc import match

from .pooling import may_pool
from .region import activations, may_carry, was_int8
from .sites import Site


def beside(model: ir.Model, sites: Sequence[Site], small: Sequence[Site]) -> list[Site]:
    """Those of the small sites whose input would not, or not all, be computed in int8, in graph order.

    Args:
        sites: all that may be quantized.
        small: some of them.
    """
    every, few = {site.node for site in sites}, {site.node: site for site in small}
    inside: set[ir.Value] = set()
    found = []
    for node in model.graph:
        site = few.get(node)
        if site is not None and site.data not in inside:
            found.append(site)
        elif node in every or _stays(node, inside):
            inside.update(node.outputs)
    return found


def _stays(node: ir.Node, inside: set[ir.Value]) -> bool:
    if was_int8(node):
        return True
    if not (may_carry(node) or may_pool(node)):
        return False
    return all(value in inside or match.is_constant(value) for value in activations(node))
