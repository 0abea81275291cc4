"""Between the driver and the gate: what is measured, and what the decisions mean for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from optc.passbase import Context


@dataclass(frozen=True)
class Outcome:
    """What goes on to legalize: decisions per family, a model if an earlier state is kept, and figures."""

    decisions: Mapping[str, str]
    model: ir.Model | None = None
    timing: Mapping[str, Any] = field(default_factory=dict)


def ungated(ctx: Context) -> Outcome:
    """Every family gets the target's first lowering, or the decision of an earlier artifact."""
    return Outcome(ctx.lowerings)
