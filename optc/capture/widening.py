"""Example inputs of size 1 along a dynamic axis, which torch.export would take for a constant 1."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.export import Dim
from torch.utils import _pytree

from . import dims
from .arguments import Call


def widened(call: Call, dynamic_shapes: dict[str, Any] | None) -> Call | None:
    """The call with every dynamic axis of size 1 repeated to size 2; None if there is no such axis.

    Only the shapes of example inputs matter to tracing, so that the values are as good as any.
    """
    leaves, tree = _pytree.tree_flatten((call.args, call.kwargs))
    specs = dims.leaf_specs(dynamic_shapes, call)
    wide = [_widened(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True)] if specs else leaves
    if all(new is old for new, old in zip(wide, leaves, strict=True)):
        return None
    args, kwargs = _pytree.tree_unflatten(wide, tree)
    return dataclasses.replace(
        call, args=args, kwargs=kwargs, bound=dict(call.forward.bind(*args, **kwargs).arguments)
    )


def _widened(leaf: Any, spec: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    for axis, dim in dims.axes(spec):
        is_dynamic = dim is not None and not isinstance(dim, int) and dim != Dim.STATIC
        if is_dynamic and leaf.shape[axis] == 1:
            leaf = torch.cat([leaf, leaf], dim=axis)
    return leaf
