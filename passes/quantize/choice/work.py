"""How much there is to compute: what quantizing a site may save, and how many models may be tried."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.analysis.concrete import concrete, sizes_of
from optc.analysis.cost import cost
from optc.passbase import Feeds

_OPERATIONS = 1e12  # that finding the errors of sites may take: a quarter of a minute on two cores
_FEWEST, _MOST = 12, 64


def work_of(model: ir.Model, samples: Sequence[Feeds]) -> dict[str, float]:
    """Operations of the nodes of the main graph, by name, at the size of the first sample.

    An estimate that depends on nothing but the model, so that the same sites are chosen every time. Nodes
    whose shapes do not tell are left out.
    """
    made = concrete(model, sizes_of(model, samples[0] if samples else {})).model
    counted = {str(node.name): found.flops for node, found in cost(made).items()}
    return {name: float(flops) for name, flops in counted.items() if isinstance(flops, int)}


def runs_for(model: ir.Model, samples: Sequence[Feeds], count: int) -> int:
    """How many models may be run on ``count`` samples."""
    each = sum(work_of(model, samples).values()) * min(count, len(samples))
    return int(min(max(_OPERATIONS / max(each, 1.0), _FEWEST), _MOST))
