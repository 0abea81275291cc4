"""torch.export with what users expect of it: evaluation mode, no gradients, batch 1, narrowed dims."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import UserError, UserErrorType
from torch.export import ExportedProgram

from .arguments import Call
from .export_errors import explained
from .narrowing import as_hints, narrowed, suggested_fixes
from .quiet import quiet

_log = logging.getLogger(__name__)


def export(module: torch.nn.Module, call: Call, dynamic_shapes: dict[str, Any] | None) -> ExportedProgram:
    """Exports ``module`` as it computes in evaluation mode, and leaves it as it was.

    Where the model only narrows the range of a dim, or ties dims together, that is accepted, and a warning
    says so. A dim that would become a constant is an error.

    Raises:
        CaptureError: torch cannot export it.
    """
    name = type(module).__name__
    try:
        return _export(module, call, dynamic_shapes)
    except UserError as error:
        if dynamic_shapes is None or error.error_type is not UserErrorType.CONSTRAINT_VIOLATION:
            raise explained(error, name) from error
        first = error
    except Exception as error:
        raise explained(error, name) from error
    shapes = narrowed(str(first), dynamic_shapes)
    if shapes is not None:
        _log.warning("%s narrows the dynamic dims: %s", name, "; ".join(suggested_fixes(str(first))))
    try:
        return _export(module, call, shapes or as_hints(dynamic_shapes))
    except Exception as error:
        raise explained(first, name) from error


def _export(module: torch.nn.Module, call: Call, dynamic_shapes: dict[str, Any] | None) -> ExportedProgram:
    # Without backed_size_oblivious, an example of batch 1 could not have a dynamic batch.
    config = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with quiet(), evaluation(module), torch.no_grad(), config:
        return torch.export.export(
            module, call.args, call.kwargs, dynamic_shapes=dynamic_shapes, strict=False
        )


@contextmanager
def evaluation(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode for the while."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
