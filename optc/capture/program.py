"""torch.export with what users expect of it: evaluation mode, no gradients, batch 1, narrowed dims."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch._dynamo.exc import UserError, UserErrorType
from torch.export import ExportedProgram

from optc.errors import CaptureError

from .alone import alone
from .arguments import Call
from .causal_hints import unasked
from .export_errors import explained
from .keywords import spelled_out
from .known_values import known_values
from .narrowing import as_hints, constants, narrowed, suggested_fixes
from .quiet import quiet
from .recurrent import WholeSequences
from .widening import widened

_log = logging.getLogger(__name__)
_ASKS_FOR_DATA = re.compile(r"data-dependent|unbacked|Could not (guard|extract)|\bu\d+\b")


def export(module: torch.nn.Module, call: Call, dynamic_shapes: dict[str, Any] | None) -> ExportedProgram:
    """Exports ``module`` as it computes in evaluation mode, and leaves it as it was.

    Where the model only narrows the range of a dim, or ties dims together, that is accepted, and a warning
    says so. A dim that would become a constant is an error.

    Raises:
        CaptureError: torch cannot export it.
    """
    wide = widened(call, dynamic_shapes)
    if wide is not None:
        try:
            return _with_retries(module, wide, dynamic_shapes)
        except CaptureError as error:  # sizes that depend on each other; the example itself is the last word
            _log.debug("not captured with a larger example: %s", error)
    return _with_retries(module, call, dynamic_shapes)


def _with_retries(
    module: torch.nn.Module, call: Call, dynamic_shapes: dict[str, Any] | None
) -> ExportedProgram:
    name, shapes, first = type(module).__name__, dynamic_shapes, None
    for retry in (_narrowed, _narrowed, _as_hints, None):
        try:
            return _export(module, call, shapes)
        except (Exception, SystemExit) as error:
            first = first or error
            if retry is None or shapes is None or not _is_violation(error):
                raise explained(first, name) from error
            shapes = retry(str(error), shapes, name) or as_hints(dynamic_shapes)
    raise AssertionError("the last attempt returns or raises")


def _is_violation(error: BaseException) -> bool:
    """Whether other dynamic shapes may help: a promise does not hold, but no dim would be a constant."""
    violation = isinstance(error, UserError) and error.error_type is UserErrorType.CONSTRAINT_VIOLATION
    return violation and not constants(str(error))


def _narrowed(message: str, shapes: dict[str, Any], name: str) -> dict[str, Any] | None:
    suggestion = narrowed(message, shapes)
    if suggestion is not None:
        fixes = suggested_fixes(message)
        # That a size is not 1 is what every trace assumes; it is no news.
        level = logging.DEBUG if all(fix.endswith(", min=2)") for fix in fixes) else logging.WARNING
        _log.log(level, "%s narrows the dynamic dims: %s", name, "; ".join(fixes))
    return suggestion


def _as_hints(message: str, shapes: dict[str, Any], name: str) -> dict[str, Any]:
    hints: dict[str, Any] = as_hints(shapes)
    return hints


def _export(module: torch.nn.Module, call: Call, dynamic_shapes: dict[str, Any] | None) -> ExportedProgram:
    # Without backed_size_oblivious, an example of batch 1 could not have a dynamic batch.
    config = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    explicit, sequences = spelled_out(module, call, dynamic_shapes), WholeSequences()
    with alone(), evaluation(module), explicit as shapes, torch.no_grad(), config, sequences, unasked():
        trace = partial(
            torch.export.export, module, call.args, call.kwargs, dynamic_shapes=shapes, strict=False
        )
        try:
            with quiet():
                return trace()
        except Exception as error:
            if not _ASKS_FOR_DATA.search(str(error)):
                raise
            _log.debug("traced again with the values of constants: %s", error)
        with quiet(), known_values(module):
            return trace()


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
