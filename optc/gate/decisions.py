"""What the gate decides, as plain data: one lowering per family of fused functions, or "inline"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx_ir as ir

from optc import rewrite
from optc.errors import UserError
from optc.measure import Ratio
from optc.registry import did_you_mean
from optc.target import Target

INLINE = "inline"  # undoes a family: its functions become plain nodes again

Decisions = Mapping[str, str]  # family -> lowering name, or INLINE
Families = Mapping[str, Sequence[str]]  # family -> names of its lowerings, in the target's order


@dataclass(frozen=True)
class Entry:
    """One thing that was measured: time with it over time without it, and what follows.

    Attributes:
        what: a family (``attention``), a choice in it (``attention: Attention``), or what else was judged.
        ratio: geometric mean over shapes and sessions; above 1 it costs time. None: not measured.
        low, high: the 95% interval around it. None: a single session, which bounds nothing.
        shapes: the same ratio per shape.
        verdict: ``kept``, ``undone``, ``chosen`` or ``not chosen``.
    """

    what: str
    verdict: str
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    sessions: int = 0
    shapes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, what: str, verdict: str, reason: str, pooled: Ratio, shapes: Mapping[str, Ratio]) -> Entry:
        """An entry with its figures."""
        by_shape = {name: found.ratio for name, found in shapes.items()}
        low, high = pooled.interval or (None, None)
        return cls(what, verdict, reason, pooled.ratio, low, high, pooled.count, by_shape)

    def to_json(self) -> dict[str, Any]:
        """The row of the report."""
        return asdict(self)


@dataclass(frozen=True)
class GateResult:
    """What goes on to legalize, and the evidence.

    Attributes:
        decisions: one per family of the model.
        ledger: everything that was measured, in the order it was looked at.
        keep_plain: the best of all artifacts lost to the captured model: keep that.
        final: time of the artifact over time of the captured model; None where nothing was measured.
        final_by_shape: the same per shape.
        seconds: shape -> seconds per call of the captured model and of the artifact, median over sessions.
    """

    decisions: Decisions
    ledger: tuple[Entry, ...] = ()
    keep_plain: bool = False
    final: Ratio | None = None
    final_by_shape: Mapping[str, Ratio] = field(default_factory=dict)
    seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def families_of(model: ir.Model, target: Target) -> dict[str, list[str]]:
    """The families that occur in a fused model, with the ways that the target has for them."""
    nodes = list(model.graph.all_nodes())
    kinds = {rewrite.kind(node) for node in nodes}
    met = {lowering.family for lowering in target.lowerings if lowering.kind in kinds}
    met |= {layout.family for layout in target.layouts if any(map(layout.concerns, nodes))}
    return {family: names for family, names in target.families.items() if family in met}


def decisions_from_json(data: Any, families: Families) -> dict[str, str]:
    """Decisions of an earlier artifact.

    Raises:
        UserError: they are no such mapping, or name a family or lowering that is not in ``families``.
    """
    if not isinstance(data, dict):
        raise UserError("gate decisions must map families to lowerings", where=repr(data)[:80])
    for family, choice in data.items():
        if family not in families:
            what = f"there is no family {family!r} of fused functions"
            raise UserError(what, where="decisions", hint=did_you_mean(str(family), families))
        known = [*families[family], INLINE]
        if choice not in known:
            what = f"the family {family!r} has no lowering {choice!r}"
            raise UserError(what, where="decisions", hint=did_you_mean(str(choice), known))
    return dict(data)
