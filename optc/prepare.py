"""What is done to a captured model before any pass sees it.

Its functions are inlined, it is brought to the newest operator set, and to single precision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optc import functions, half, observers, opsets, verify
from optc.capture import Captured
from optc.errors import VerifyError
from optc.target import Target


def prepare(captured: Captured, target: Target, compare: observers.Compare) -> dict[str, Any]:
    """All of it, each step held against the model as it came; what the report says of it."""
    inlined, left = _inline_functions(captured, compare)
    raised = _raise_opset(captured, target, compare)
    if captured.model.functions:  # of another operator set, which may be the same now
        more, left = _inline_functions(captured, compare)
        inlined += more
    opsets.as_standard(captured.model)
    return {"opset": raised, **({"functions": {"inlined": inlined, **left}} if inlined or left else {})}


def _inline_functions(captured: Captured, compare: observers.Compare) -> tuple[int, dict[str, Any]]:
    """Puts the bodies of the model's functions in place of their calls; how many, and why not the others."""
    if not captured.model.functions:
        return 0, {}
    model = captured.model.clone()
    inlined, kept = functions.inline_all(model)
    try:
        verify.verify(model)
        wrong = compare.judge(model, exact=True)[1]
    except VerifyError as error:
        wrong = str(error).splitlines()[0]
    if wrong:
        return 0, {"stopped": wrong}
    captured.model = model
    return inlined, {"kept": kept} if kept else {}


def _raise_opset(captured: Captured, target: Target, compare: observers.Compare) -> dict[str, Any]:
    """Brings the captured model to the newest operator set of the target, where its meaning allows it."""
    if target.max_opset is None:
        return {}
    before = captured.model.clone()
    raised = opsets.raise_to(captured.model, target.max_opset(), target.keeps_kernel)
    stopped = raised.stopped
    if raised.rewritten and (wrong := compare.judge(captured.model, exact=True)[1]):
        captured.model, stopped = before, wrong
        raised = replace(raised, after=raised.before)
    return {"before": raised.before, "after": raised.after, **({"stopped": stopped} if stopped else {})}


def compute_in_single(captured: Captured, target: Target, compare: observers.Compare) -> dict[str, Any]:
    """Brings a captured model in half precision to float32 where the target computes in that."""
    found = {kind.name.lower(): count for kind, count in half.computes_in(captured.model).items()}
    if (single := half.in_single(captured.model, target)) is None:
        return {}
    if wrong := compare.judge(single, exact=True)[1]:
        return {**found, "stopped": wrong}
    captured.model = single
    return found
