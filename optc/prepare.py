"""What is done to a captured model before any pass sees it: the newest operator set, and single precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optc import half, observers, opsets
from optc.capture import Captured
from optc.target import Target


def raise_opset(captured: Captured, target: Target, compare: observers.Compare) -> dict[str, Any]:
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
