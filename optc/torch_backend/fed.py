"""Which arguments an executable takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .graph import Graph
from .plan import Plan


def fed(graph: Graph, plan: Plan, arguments: Sequence[Any]) -> list[int]:
    """Indices of the arguments that an executable takes: tensors, and numbers that no tensor tells."""
    frozen = {*plan.frozen, *graph.sizes, *graph.baked}
    tensors = {i for i, value in enumerate(arguments) if isinstance(value, torch.Tensor)}
    return [i for i in range(len(arguments)) if i not in frozen and (i in tensors or i in graph.numbers)]
