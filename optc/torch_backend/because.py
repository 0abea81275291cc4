"""Why a graph runs in eager mode."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from optc.errors import OptcError, UserError
from optc.ort_errors import ORT_FAILURES

if TYPE_CHECKING:
    from .graph import Graph


class Unsupported(Exception):
    """A graph must run in eager mode; the text says why."""


class FallbackWarning(UserWarning):
    """A graph runs in eager mode instead of being compiled."""


def check_arguments(arguments: Iterable[Any]) -> None:
    """Raises Unsupported where a tensor is not what an executable can read."""
    for value in arguments:
        if not isinstance(value, torch.Tensor):
            continue
        if value.device.type != "cpu":
            raise Unsupported(f"a tensor is on {value.device}, and executables run on the CPU")
        if value.layout != torch.strided or value.is_quantized:
            raise Unsupported("a tensor is sparse or quantized")
        if type(value) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise Unsupported(f"a tensor is of the class {type(value).__name__}")


def is_ours(error: Exception) -> bool:
    """Whether the last code of torch or of optc that ran was ours, and so the error is a defect of ours.

    What torch raises, also from C++ (RuntimeError), and what the runtime raises says what they cannot do.
    """
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # torch.fx wraps some kinds
    if isinstance(error, (Unsupported, UserError, RuntimeError, *ORT_FAILURES)):
        return False
    frames = reversed(list(traceback.walk_tb(error.__traceback__)))
    packages = (str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in frames)
    return next((package for package in packages if package in ("optc", "torch")), "optc") == "optc"


def internal_error(what: str, error: Exception, graph: Graph) -> OptcError:
    """What to raise instead of an error that is a defect of ours, chained with ``from error``.

    Args:
        what: failed, such as "a pass".
    """
    lines = str(error).strip().splitlines() or [""]
    where = graph.where()
    return OptcError(
        "\n".join(
            [
                f"{what} failed on a graph of {graph.operators()} operators",
                f"  {type(error).__name__}: {lines[0]}",
                *(f"  {note}" for note in getattr(error, "__notes__", ())),
                *([f"  where: {where}"] if where else []),
                "  This is a defect of optc, not of your model: please report it with the full trace.",
                '  do:    compile without passes, options={"level": 0}, or leave the backend out',
            ]
        )
    )


def reason_of(error: Exception) -> str:
    """One or two lines that say what went wrong."""
    if isinstance(error, Unsupported):
        return str(error)
    if isinstance(error, UserError):
        return f"{error.what}{f' ({error.where})' if error.where else ''}"
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0][:300]}"
    return text if isinstance(error, OptcError) else f"an operator or the compiler failed: {text}"
