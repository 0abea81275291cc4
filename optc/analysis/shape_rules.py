"""Corrections to the library's shape rules, where they say more than is known.

The library assumes that what it cannot see does not matter: that two different symbols broadcast to the first
one, that `Split` sizes given at run time are equal parts, that `Squeeze` with run-time axes drops the ones. A
rewrite that trusts such a shape changes results, so here those dims become fresh symbols or unknown shapes.
The corrections lie by idea in `broadcast_rules`, `slicing_rules`, `control_rules` and `pool_rules`; what the
library could know and does not (integers in shape tensors) is in `shape_values`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from functools import cache

import onnx_ir as ir
from onnx_shape_inference import SYM_DATA_KEY, ShapeInferenceContext, registry

from optc.analysis import (
    broadcast_rules,
    contrib_rules,
    control_rules,
    extents,
    pool_rules,
    quantized_rules,
    shape_values,
    slicing_rules,
)
from optc.analysis.broadcast_rules import Dim, Rule


@cache
def install() -> None:
    """Registers the corrections over the library's own rules, once per process."""
    registry.collect()
    contrib_rules.install()
    for domain, op_type, _ in list(registry.iter_supported()):
        _wrap(op_type, _in_range, domain)
    for op_type, wrapper in {
        **broadcast_rules.WRAPPERS,
        **slicing_rules.WRAPPERS,
        **control_rules.WRAPPERS,
        **pool_rules.WRAPPERS,
        **shape_values.WRAPPERS,
    }.items():
        _wrap(op_type, wrapper)
    for op_type, wrapper in broadcast_rules.ELEMENTWISE.items():
        _wrap(op_type, wrapper)  # around the rules for values: those of Div, Equal and Where set a shape too
    for op_type, wrapper in quantized_rules.WRAPPERS.items():
        _wrap(op_type, wrapper, quantized_rules.CONTRIB)
    for domain, op_type, _ in list(registry.iter_supported()):
        _wrap(op_type, _tidy, domain)
        _wrap(op_type, _in_range, domain)


def _wrap(op_type: str, wrapper: Callable[[Rule], Rule], domain: str = "") -> None:
    versions = dict.fromkeys(registry.version_boundaries(domain, op_type))
    rules = {since: registry.get(domain, op_type, since) for since in versions}
    for since, rule in rules.items():
        assert rule is not None
        registry.register(domain, op_type, since_version=since)(wrapper(rule))


def _tidy(library: Rule) -> Rule:
    """Arithmetic on symbols can end in a plain number, which the library leaves as a symbol named ``2``."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        for output in node.outputs:
            if output.shape is not None and any(_is_number(dim) for dim in output.shape):
                output.shape = ir.Shape([_number(dim) for dim in output.shape])
            known = ctx.get_symbolic_value(output)
            if known is not None and any(_is_number(element) for element in known):
                ctx.set_symbolic_value(output, [_number(element) for element in known])
        extents.note(ctx, node)

    return rule


def _in_range(library: Rule) -> Rule:
    """Integers wrap around at run time, and the library counts on: then it knows nothing of them."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        with contextlib.suppress(OverflowError):  # as it makes a constant of them, when all else is noted
            library(ctx, node)
        for output in node.outputs:
            known = ctx.get_symbolic_value(output)
            if known is not None and not all(_fits(element, output.dtype) for element in known):
                output.const_value = None
                output.metadata_props.pop(SYM_DATA_KEY, None)
                ctx._symbolic_values.pop(output, None)  # there is no public way to take it back

    return rule


def _fits(element: Dim, dtype: ir.DataType | None) -> bool:
    if not isinstance(element, int) or dtype is None or not dtype.is_integer():
        return True
    return int(dtype.min) <= element <= int(dtype.max)


def _is_number(dim: Dim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and re.fullmatch(r"-?\d+", dim.value or "") is not None


def _number(dim: Dim) -> Dim:
    return int(dim.value or "") if isinstance(dim, ir.SymbolicDim) and _is_number(dim) else dim
