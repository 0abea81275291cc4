"""Why a graph runs in eager mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from optc.errors import OptcError, UserError

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


def internal_error(error: Exception, graph: Graph) -> OptcError:
    """What to raise instead of an error that is a defect of ours, chained with ``from error``."""
    lines = str(error).strip().splitlines() or [""]
    where = graph.where()
    return OptcError(
        "\n".join(
            [
                f"a pass failed on a graph of {graph.operators()} operators",
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
