"""The ``simplify`` pass: folds, merges and removes until nothing is left to do.

One file per idea. The rules share a worklist (``editor.py``) and what is certain about shapes and constants
(``facts.py``); both are made anew for each round, and every round takes time linear in the graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option

from . import (
    batchnorm,
    casts,
    columns,
    concat_split,
    control,
    cse,
    dedup,
    identities,
    lift,
    linears,
    masks,
    narrow,
    reshapes,
    shapes,
    shifts,
    slices,
    transposes,
)
from .editor import Editor
from .facts import Facts, overridable_defaults_hidden
from .fold import Folder

_RULES = (
    *casts.RULES,
    *transposes.RULES,
    *reshapes.RULES,
    *shapes.RULES,
    *slices.RULES,
    *concat_split.RULES,
    *identities.RULES,
    *control.RULES,
    *masks.RULES,
    *narrow.RULES,
    *shifts.RULES,
    *batchnorm.RULES,
    *linears.RULES,
    *columns.RULES,
)
_ROUNDS = 10  # two or three are usual; a bound, because a pass must end


@dataclass(frozen=True)
class Simplify(Pass):
    """Folds constants and shape arithmetic, merges equal nodes and weights, removes what changes nothing."""

    name: ClassVar[str] = "simplify"

    fold_limit: int = option(1 << 20, "bytes by which a folded result may be larger than what it replaces")

    def __post_init__(self) -> None:
        if self.fold_limit < 0:
            raise UserError(
                f"fold-limit={self.fold_limit} is out of range", where=self.name, hint="at least 0"
            )

    def run(self, model: ir.Model, ctx: Context) -> Report:
        outputs = [value.shape for value in model.graph.outputs]
        inputs = [value.shape for value in model.graph.inputs]
        inner = [(value, value.shape) for graph in model.graph.subgraphs() for value in graph.outputs]
        matched: Counter[str] = Counter()
        skips: tuple[Skip, ...] = ()
        folder = Folder(self.fold_limit)
        declared = {
            value: value.shape  # of the outputs of a graph it is not believed: runtimes do not insist on it
            for node in model.graph.all_nodes()
            for value in node.outputs
            if not value.is_graph_output()
        }
        with overridable_defaults_hidden(model):
            for _ in range(_ROUNDS):
                editor = Editor(model, Facts(model, declared), ctx.trail)
                found = _round(editor, folder)
                matched += found
                skips = tuple(editor.skips())  # each round looks at every node, so the last one has them all
                if not found:
                    break
        for value, shape in zip(model.graph.outputs, outputs, strict=True):
            value.shape = value.shape if shape is None else shape  # a branch of unknown rank may be decided
        for value, shape in zip(model.graph.inputs, inputs, strict=True):
            value.shape = shape
        for value, shape in inner:  # what followed from a declared output of the model
            value.shape = shape if value.shape is None else value.shape
        return Report(
            changed=bool(matched),
            matched=dict(sorted(matched.items())),
            skipped=skips,
        )


def _round(editor: Editor, folder: Folder) -> Counter[str]:
    """One round over the whole graph; what it changed, by name."""
    dead = editor.remove_dead()
    editor.matched["constant lifted"] += lift.lift_constants(editor)
    editor.rewrite(_RULES)
    editor.matched["constant folded"] += folder.fold(editor)
    editor.matched["equal nodes merged"] += cse.merge_equal_nodes(editor)
    editor.matched["equal weights merged"] += dedup.merge_equal_weights(editor)
    editor.rewrite(())
    editor.matched["dead code"] += dead + editor.remove_unused_initializers()
    return +editor.matched
