"""What a ``forward`` takes as ``**kwargs``, under torch.export: parameters like others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

from .arguments import Call


@contextmanager
def spelled_out(
    module: torch.nn.Module, call: Call, dynamic_shapes: Mapping[str, Any] | None
) -> Iterator[dict[str, Any] | None]:
    """Within it, ``module.forward`` has a parameter of its own for each keyword it takes as ``**kwargs``.

    Yields ``dynamic_shapes`` by those parameters: torch 2.13 fails with any for what has no name of its own.
    """
    gathered = [p.name for p in call.forward.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    if dynamic_shapes is None or not gathered or gathered[0] not in call.bound:
        yield None if dynamic_shapes is None else dict(dynamic_shapes)
        return
    names = list(call.bound[gathered[0]])
    shapes = {name: dims for name, dims in dynamic_shapes.items() if name != gathered[0]}
    shapes |= dict.fromkeys(names) | (dynamic_shapes[gathered[0]] or {})
    own = module.__dict__.get("forward")
    module.forward = _with_parameters(module.forward, call.forward, names)
    try:
        yield shapes
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _with_parameters(forward: Any, known: inspect.Signature, names: list[str]) -> Any:
    @wraps(forward)
    def explicit(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    others = [p for p in known.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    explicit.__signature__ = known.replace(parameters=[*others, *added])  # type: ignore[attr-defined]
    return explicit
