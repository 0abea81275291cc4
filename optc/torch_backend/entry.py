"""The function that torch finds through the entry point group ``torch_dynamo_backends``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx

from optc.errors import UserError

from .compiled import Compiled
from .graph import Graph
from .options import Options


def optc(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compiles a graph of dynamo for inference on the CPU.

    Args:
        module: operators of torch, as dynamo traced them.
        example_inputs: tensors and numbers, in the order of the placeholders.
        options: see `Options`.

    A wrong option or mode is a UserError at the first call: what is raised here, torch would wrap.
    """
    try:
        checked = _checked(options, mode)
    except UserError as error:
        return partial(_refuse, error)
    graph, grad = Graph(module, example_inputs), torch.is_grad_enabled()
    if getattr(torch._dynamo.config, "caching_precompile", False):
        from .precompile import record

        record(graph, checked, grad)
    return Compiled(graph, checked, grad=grad)


def _checked(options: Mapping[str, Any] | None, mode: str | None) -> Options:
    if mode not in (None, "default"):
        hint = 'leave it out; options={"level": 2} asks for more'
        raise UserError(f"the backend 'optc' has no mode {mode!r}", where="torch.compile", hint=hint)
    return Options.parse(options)


def _refuse(error: UserError, *arguments: Any) -> Any:
    raise error
