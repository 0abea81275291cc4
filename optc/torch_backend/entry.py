"""The function that torch finds through the entry point group ``torch_dynamo_backends``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from optc.errors import UserError

from .compiled import Compiled
from .options import Options


def optc(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Compiled:
    """Compiles a graph of dynamo for inference on the CPU.

    Args:
        module: operators of torch, as dynamo traced them.
        example_inputs: tensors and numbers, in the order of the placeholders.
        options: see `Options`.

    Raises:
        UserError: there is no such option, or its value cannot be one.
    """
    if mode not in (None, "default"):
        hint = 'leave it out; options={"level": 2} asks for more'
        raise UserError(f"the backend 'optc' has no mode {mode!r}", where="torch.compile", hint=hint)
    return Compiled(module, example_inputs, Options.parse(options))
