"""Example inputs, in any form that people write them, as the arguments of ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from optc.errors import CaptureError, UserError


@dataclass(frozen=True)
class Call:
    """``forward(*args, **kwargs)``; ``bound`` has the same values by parameter name, in the same order."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    bound: dict[str, Any]
    forward: inspect.Signature


def call_of(module: torch.nn.Module, example_inputs: Any) -> Call:
    """Binds example inputs to the parameters of ``module.forward``.

    Args:
        example_inputs: a tuple or list of positional arguments, a dict of keyword arguments, a tuple that
            ends in such a dict, or a single argument. Arrays become tensors.

    Raises:
        UserError: they do not fit.
    """
    forward = inspect.signature(module.forward)
    where = f"example_inputs of {type(module).__name__}.forward{forward}"
    if example_inputs is None:
        hint = "pass example_inputs: a tuple, or a dict by parameter name"
        raise UserError("a PyTorch module can only be captured with example inputs", where=where, hint=hint)
    args, kwargs = _split(forward, _distinct_tensors(example_inputs))
    try:
        bound = forward.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise UserError(f"the example inputs do not fit: {error}", where=where) from None
    ordered = {name: kwargs[name] for name in forward.parameters if name in kwargs}
    ordered |= {name: value for name, value in kwargs.items() if name not in ordered}
    call = Call(args, ordered, dict(bound), forward)
    for path, leaf in _pytree.tree_leaves_with_path(call.bound):
        _check_leaf(leaf, f"example input {_pytree.keystr(path)}")
    return call


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The same memory as an array; bfloat16 and float8 get their ml_dtypes type."""
    from torch.onnx._internal.exporter._core import TorchTensor

    return TorchTensor(tensor.detach()).numpy()


def _split(forward: inspect.Signature, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, tuple) and not hasattr(example, "_fields"):
        *args, last = example or (None,)
        if isinstance(last, Mapping) and not _binds(forward, *example) and _binds(forward, *args, **last):
            return tuple(args), dict(last)
        return example, {}
    if isinstance(example, list):
        return (tuple(example) if _binds(forward, *example) else (example,)), {}
    if isinstance(example, Mapping) and (_binds(forward, **example) or len(forward.parameters) != 1):
        return (), dict(example)
    return (example,), {}


def _binds(forward: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        forward.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _distinct_tensors(example: Any) -> Any:
    """Every array a tensor of its own, without a copy: torch.export takes one tensor for one input."""
    seen: set[int] = set()

    def distinct(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value)
        if not isinstance(value, torch.Tensor) or id(value) not in seen:
            seen.add(id(value))
            return value
        return value.detach()

    return _pytree.tree_map(distinct, example)


def _check_leaf(leaf: Any, where: str) -> None:
    if isinstance(leaf, torch.Tensor):
        if leaf.is_complex():
            hint = "pass the real and imaginary parts as a last axis of 2 (torch.view_as_real)"
            raise CaptureError("complex inputs are not supported", where=where, hint=hint)
        if leaf.layout != torch.strided or leaf.is_quantized:
            kind = "quantized" if leaf.is_quantized else str(leaf.layout)
            raise CaptureError(f"{kind} tensors are not supported", where=where, hint="pass a dense tensor")
    elif leaf is not None and not isinstance(leaf, (bool, int, float, str)):
        hint = (
            "pass tensors, numbers, None, or containers of them; a container class of your own is registered "
            "with torch.utils._pytree.register_pytree_node (the caches of transformers: "
            "register_dynamic_cache_export_support)"
        )
        raise UserError(f"a {type(leaf).__name__} cannot be an input", where=where, hint=hint)
