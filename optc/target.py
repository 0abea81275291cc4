"""What a target is: data about what may be executed, and the functions that turn a model into a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

# Lowerings may keep what several calls of a model share in ``model.meta[SCRATCH]``; legalize clears it.
SCRATCH = "optc.lowering"


@dataclass(frozen=True)
class Lowering:
    """One way to execute a fused function on a target.

    ``lower(call, function, model)`` returns the new output values, in the order of the call's outputs, of
    nodes that it has already inserted before the call, or a reason (str) why this call must stay inlined.
    """

    kind: str  # the fused function, e.g. "Attention"
    name: str  # what `--decisions` and the report call it, e.g. "MultiHeadAttention"
    family: str  # what the gate switches, e.g. "attention"
    lower: Callable[[ir.Node, ir.Function, ir.Model], list[ir.Value] | str]


@dataclass(frozen=True)
class Layout:
    """Another arrangement of a legal program's data in memory, which changes no result.

    ``concerns(node)`` tells, before lowering already, whether it may have something to do at a node, and
    ``arrange(node, model)`` returns the new output values of the node, as a lowering does, or None.
    """

    name: str
    family: str
    concerns: Callable[[ir.Node], bool]
    arrange: Callable[[ir.Node, ir.Model], list[ir.Value] | None]


@dataclass(frozen=True)
class Target:
    """A thing that programs are compiled for.

    Attributes:
        pipelines: optimization level (0 to 3) -> pipeline text, without ``legalize``.
        legal: a reason why ``node`` cannot be executed, or None; asked of every node after legalize (I8).
        lowerings: in order of preference; a kind without one is inlined.
        layouts: what is rearranged behind lowering, unless the gate undoes it.
        emit: ``emit(model, directory, options)`` writes the program, returns the names of its files.
        load: ``load(directory, options)`` gives a callable ``feeds -> outputs`` (dicts by name).
        max_opset: the newest default operator set that programs may import; models are raised to it. None
            keeps the captured model's.
        keeps_kernel: ``keeps_kernel(node, old, new)``: whether a node that can be executed at version ``old``
            of the default operator set can be at ``new``.
        precisions: the types narrower than float32 that its kernels compute in.
        finalize: last edits of a legal model; whether there were any.
        tuned_for: what of this machine the program of a legal model depends on, as JSON data.
        unlike: ``unlike(tuned)``: sentences on what it means to run a program here that was tuned so.
        check_machine: a reason why the target cannot run here, or None.
        check_options: raises UserError for a target option that it does not know.
    """

    name: str
    summary: str
    pipelines: Mapping[int, str]
    legal: Callable[[ir.Model, ir.Node], str | None]
    lowerings: tuple[Lowering, ...]
    emit: Callable[[ir.Model, Path, Mapping[str, Any]], list[str]]
    load: Callable[[Path, Mapping[str, Any]], Any]
    layouts: tuple[Layout, ...] = ()
    max_opset: Callable[[], int] | None = None
    keeps_kernel: Callable[[ir.Node, int, int], bool] = lambda node, old, new: True
    check_machine: Callable[[], str | None] = lambda: None
    check_options: Callable[[Mapping[str, Any]], object] = lambda options: None
    precisions: frozenset[ir.DataType] = frozenset()
    finalize: Callable[[ir.Model], bool] = lambda model: False
    tuned_for: Callable[[ir.Model], Mapping[str, Any]] = lambda model: {}
    unlike: Callable[[Mapping[str, Any]], Sequence[str]] = lambda tuned: ()
    session: Mapping[str, Any] = field(default_factory=dict)

    @property
    def families(self) -> dict[str, list[str]]:
        """What the gate switches, with the names of the ways to do it, in order of preference."""
        found: dict[str, list[str]] = {}
        ways: list[Lowering | Layout] = [*self.lowerings, *self.layouts]
        for way in ways:
            names = found.setdefault(way.family, [])
            if way.name not in names:
                names.append(way.name)
        return found
