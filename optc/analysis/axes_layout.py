"""Axes as groups of factors: an axis of [batch * tokens, width] is the group (batch, tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_ir as ir

from optc import match

Dim: TypeAlias = "int | ir.SymbolicDim"
Role = Literal["batch", "token", ""]


class Mixes(Exception):
    """Behind this operator no axis runs over the tokens; the message says why."""


@dataclass(frozen=True)
class Factor:
    """A part of an axis; the later factors of a group vary faster.

    Attributes:
        skip: of the tokens, this many of the first are not in it.
    """

    role: Role
    size: Dim
    skip: int = 0


Group: TypeAlias = tuple[Factor, ...]


@dataclass(frozen=True)
class Layout:
    """The groups of a value, one per axis; exactly one factor is the tokens."""

    groups: tuple[Group, ...]

    def axis(self, role: Role) -> int | None:
        """The axis that the factor of this role is in, or None."""
        return next((i for i, g in enumerate(self.groups) if any(f.role == role for f in g)), None)

    @property
    def tokens(self) -> int:
        """The axis of the tokens."""
        axis = self.axis("token")
        assert axis is not None, "a layout has tokens"
        return axis

    @property
    def skip(self) -> int:
        """How many of the first tokens are not in it."""
        return next(factor.skip for factor in self.groups[self.tokens] if factor.role == "token")

    def is_whole(self, axis: int) -> bool:
        """Whether the axis is one factor."""
        return len(self.groups[axis]) == 1

    def has_role(self, axis: int) -> bool:
        """Whether the axis runs over tokens or batch."""
        return any(factor.role for factor in self.groups[axis])


@dataclass(frozen=True)
class Side:
    """An operand that has a number for every token, such as a table of positions, and no tokens itself.

    ``tokens`` and ``batch`` are its axes; batch is None where it has none, or one of size 1.
    """

    index: int
    tokens: int
    batch: int | None


@dataclass(frozen=True)
class Step:
    """What an operator does to the tokens.

    Attributes:
        outputs: the layouts of its outputs, None for those without tokens.
        sides: its operands that are aligned with the tokens.
        first: it takes this many of the first tokens apart from the others (outputs without tokens hold
            nothing else), or puts them back in front.
    """

    outputs: tuple[Layout | None, ...]
    sides: tuple[Side, ...] = ()
    first: int | None = None


def start(value: ir.Value, order: Sequence[Role]) -> Layout | None:
    """The layout in which the axes of ``value`` have these roles; None where its sizes are not known."""
    if value.shape is None or len(value.shape) != len(order):
        return None
    sizes = [match.dim(value, axis) for axis in range(len(order))]
    if not all(sizes):
        return None
    return Layout(tuple((Factor(role, size),) for role, size in zip(order, sizes, strict=True) if size))
