"""What a method of choosing is given, and the table of methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from optc.passbase import Context, Feeds

from ._sites import Site


@dataclass(frozen=True)
class Problem:
    """Choose ``count`` of ``candidates`` to remove from ``model``.

    Attributes:
        sites: all removable pieces in graph order, the protected ones too.
        candidates: those that may be chosen.
        samples: feeds to score on; empty for methods that need no data.
        budget: models that a search may try.
    """

    model: ir.Model
    sites: Sequence[Site]
    candidates: Sequence[Site]
    count: int
    samples: Sequence[Feeds]
    budget: int
    ctx: Context


@dataclass(frozen=True)
class Choice:
    """The pieces to remove, in graph order, and the scores that say why, for the report."""

    sites: tuple[Site, ...]
    scores: dict[str, float]

    @classmethod
    def of(cls, problem: Problem, chosen: Sequence[Site], scores: dict[str, float]) -> Choice:
        """The chosen sites, sorted as they lie in the graph."""
        return cls(tuple(site for site in problem.sites if site in chosen), scores)
