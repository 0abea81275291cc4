"""Replaces calls of fused functions by what the target executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from optc import removal, rewrite
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip
from optc.registry import did_you_mean
from optc.target import SCRATCH, Lowering, Target

INLINE = "inline"  # the decision that undoes a family


@dataclass(frozen=True)
class Legalize(Pass):
    """Lowers fused functions to operators of the target; inlines those it has none for."""

    name: ClassVar[str] = "legalize"

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Calls without a lowering that accepts them get the function's body in their place."""
        _check_decisions(ctx)
        done = _Done()
        _inline_undone(model, ctx, done)
        try:
            for call in [n for n in model.graph.all_nodes() if rewrite.kind(n) is not None]:
                _lower(call, model, ctx, done)
            inlined = rewrite.inline(model)
            _arrange(model, ctx, done)
        finally:
            model.meta.pop(SCRATCH, None)
        changed = done.changed or inlined or bool(done.lowered)
        if changed:
            removal.remove_unused(model)  # weights whose packed copies took their place among them
        changed = ctx.target.finalize(model) or changed
        if changed:
            shapes.infer(model)
        lowered, undone = (dict(sorted(found.items())) for found in (done.lowered, done.inlined))
        return Report(changed, lowered, tuple(done.skipped), {"lowered": lowered, "inlined": undone})


@dataclass
class _Done:
    """What became of the calls, and why not."""

    lowered: Counter[str] = field(default_factory=Counter)
    inlined: Counter[str] = field(default_factory=Counter)
    changed: bool = False
    skipped: list[Skip] = field(default_factory=list)


def _inline_undone(model: ir.Model, ctx: Context, done: _Done) -> None:
    """Puts bodies in place first where nothing else may come: neighbours' lowerings look at plain nodes."""
    undone = set()
    for node in model.graph.all_nodes():
        kind = rewrite.kind(node)
        if kind is not None and not candidates(ctx.target, kind, ctx.lowerings):
            undone.add(node.op_identifier())
            done.inlined[kind] += 1
    if undone:
        done.changed = rewrite.inline(model, lambda function: function.identifier() in undone)


def _lower(call: ir.Node, model: ir.Model, ctx: Context, done: _Done) -> None:
    kind, where = str(rewrite.kind(call)), call.name or call.op_type
    function = model.functions[call.op_identifier()]
    refused: dict[str, Skip] = {}
    for lowering in candidates(ctx.target, kind, ctx.lowerings) if ctx.trail.open else ():
        result = lowering.lower(call, function, model)
        if isinstance(result, str):
            refused[lowering.name] = Skip(where, f"{kind} not lowered to {lowering.name}: {result}")
            continue
        ctx.trail.replacing(call.outputs, result)
        _replace(call, result)
        ctx.trail.applied(f"{kind} -> {lowering.name}", [call])
        done.lowered[f"{kind} -> {lowering.name}"] += 1
        if unmet := refused.get(ctx.lowerings.get(lowering.family, "")):
            done.skipped.append(unmet)  # news, though lowered: it is not what was decided
        return
    done.skipped += refused.values()
    done.inlined[kind] += 1


def _arrange(model: ir.Model, ctx: Context, done: _Done) -> None:
    for layout in ctx.target.layouts:
        if ctx.lowerings.get(layout.family) == INLINE:
            continue
        for node in [node for node in model.graph if layout.concerns(node)]:
            result = layout.arrange(node, model) if ctx.trail.open else None
            if result is None:
                continue
            ctx.trail.replacing(node.outputs, result)
            _replace(node, result)
            ctx.trail.applied(layout.name, [node])
            done.lowered[layout.name] += 1


def candidates(target: Target, kind: str, decisions: Mapping[str, str]) -> list[Lowering]:
    """The lowerings to try for a kind, in order: the decided one of its family, or all of the target's."""
    found = [lowering for lowering in target.lowerings if lowering.kind == kind]
    if not found:
        return []
    decision = decisions.get(found[0].family)
    if decision == INLINE:
        return []
    chosen = [lowering for lowering in found if lowering.name == decision]
    return chosen + [lowering for lowering in found if lowering not in chosen]


def _check_decisions(ctx: Context) -> None:
    names = {family: {INLINE, *found} for family, found in ctx.target.families.items()}
    for family, decision in ctx.lowerings.items():
        if family not in names:
            what = f"the target {ctx.target.name!r} has no family {family!r} of fused functions"
            raise UserError(what, where="decisions", hint=did_you_mean(family, names))
        if decision not in names[family]:
            what = f"the target {ctx.target.name!r} has no lowering {decision!r} of the family {family!r}"
            raise UserError(what, where="decisions", hint=did_you_mean(decision, names[family]))


def _replace(call: ir.Node, results: list[ir.Value]) -> None:
    """Gives the results the names, readers and places among the graph outputs of the call's outputs."""
    for old, new in zip(call.outputs, results, strict=True):
        name = old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        new.name = name
        new.type = new.type or old.type
        if old.shape is not None:
            new.shape = old.shape
    assert call.graph is not None
    call.graph.remove(call, safe=True)
