"""The user's metric of a model: whose mistake it is when there is no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from optc.errors import UserError
from optc.session import ORT_ERRORS, open_session, run_session
from optc.user_code import user_code

Metric = Callable[..., float]  # metric(run) -> float, higher is better


class _DidNotRun(Exception):
    """The runtime failed on inputs that the metric gave."""


def metric_of(metric: Metric, model: ir.Model, threads: int | None = None) -> float:
    """The metric of a model as the runtime runs it.

    Raises:
        UserError: the metric failed, returned no number, or gave inputs that the model does not run on.
    """
    session = open_session(model, threads=threads)

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return run_session(session, feeds)
        except ORT_ERRORS as error:
            raise _DidNotRun(_why(error, feeds, session)) from error

    with user_code("the metric", {_DidNotRun: "the model did not run on what the metric gave it"}):
        value = metric(run)
    try:
        return float(value)
    except (TypeError, ValueError):
        what = f"the metric returned {value!r:.60}, which is not a number"
        raise UserError(what, hint="metric(run) -> float, higher is better") from None


def _why(error: Exception, feeds: Mapping[str, Any], session: ort.InferenceSession) -> str:
    """What the runtime says, or which names are wrong."""
    names = [given.name for given in session.get_inputs()]
    if unknown := [str(name) for name in feeds if name not in names]:
        return f"it has no input {', '.join(unknown)}; known: {', '.join(names)}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
