"""Scores seen as a grid, [..., h, w, h', w'] for [..., h * w, h' * w'], while biases are added to them.

Relative positions in two dimensions (Li et al., "Exploring Plain Vision Transformer Backbones for Object
Detection", 2022): a bias by the rows of query and key, and one by their columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from optc.newnode import Operand
from optc.rewrite import NearMiss

from . import _frame, _new


@dataclass
class Grid:
    """``shape`` of the scores as a grid, ``flat`` before it, and the sum of what was added meanwhile."""

    shape: list[_frame.Dim]
    flat: list[_frame.Dim]
    terms: list[Operand] = field(default_factory=list)

    def add(self, term: ir.Value | None) -> None:
        """Notes a bias."""
        if term is None or term.shape is None or term.shape.rank() != len(self.shape):
            raise NearMiss("a bias per axis has another rank than the scores")
        self.terms.append(term)

    def flattened(self, scores: ir.Value) -> Operand | None:
        """The biases as one for the ``scores`` behind the grid; None where there was none."""
        if scores.shape is None or not _frame.same(list(scores.shape), self.flat):
            raise NearMiss("the scores are reshaped before the softmax")
        if not self.terms:
            return None
        total = self.terms[0]
        for term in self.terms[1:]:
            total = _new.add(total, term)
        if _new.dims(total)[-4:] != self.shape[-4:]:
            raise NearMiss("biases per axis leave one out")
        lead = _new.dims(total)[:-4]
        return _frame.regrouped(total, [*lead, *self.flat[-2:]], "biases")


def entered(node: ir.Node) -> Grid | None:
    """The grid that a Reshape of scores makes of them, if it does."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return None
    flat, shape = list(before.shape), list(after.shape)
    if len(flat) < 2 or len(shape) != len(flat) + 2 or not _frame.same(flat[:-2], shape[:-4]):
        return None
    ends = [dim for dim in (*shape[-4:], *flat[-2:]) if isinstance(dim, int)]
    if len(ends) != 6 or [math.prod(ends[:2]), math.prod(ends[2:4])] != ends[4:]:
        return None
    return Grid(shape, flat)
