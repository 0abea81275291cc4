"""SmoothQuant: large channels of an input are divided by a factor that its weights are multiplied by.

Exact in float. Where one step of a grid serves all channels of an input, a few large ones decide it; weights
have room to take part of that over (Xiao et al., "SmoothQuant: Accurate and efficient post-training
quantization for large language models", ICML 2023). The exponent that divides the burden is chosen for each
input by the error that the rounding of input and weights is expected to cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import observe
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.sites import Site

from . import fold
from .choose import ALPHAS, Choice, choose
from .groups import Group, groups_of
from .statistics import Channels

__all__ = ["Smoothed", "smooth"]

_WORTH_A_NODE = 0.5  # of the expected error must go where smoothing costs a multiplication at run time


@dataclass
class Smoothed:
    """What became of the inputs.

    Attributes:
        folded: divided by the operators before them: nothing is left to do at run time.
        multiplied: divided by a node of their own.
        alphas: the exponent by input name.
    """

    folded: int = 0
    multiplied: int = 0
    alphas: dict[str, float] = field(default_factory=dict)


def smooth(
    model: ir.Model,
    sites: Sequence[Site],
    samples: Iterable[Feeds],
    ctx: Context,
    *,
    alpha: float | None = None,
    per_channel: bool = True,
    limit: int = 127,
) -> Smoothed:
    """Divides the inputs of the sites, and multiplies the rows of their weights, in place.

    Args:
        model: plain; the sites are products of its main graph, still in float.
        samples: what channel ranges are learned from.
        alpha: the exponent; None chooses one for each input.
        per_channel: whether weights will have a scale per output channel.
        limit: the largest code of a weight.
    """
    groups = groups_of(sites)
    probes = {str(group.data.name): Channels() for group in groups}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph, done = Graph(model), Smoothed()
    for group in groups:
        seen = probes[str(group.data.name)]
        if not seen.usable:
            continue
        choice = choose(seen, group.matrix(), ALPHAS if alpha is None else (alpha,), per_channel, limit)
        if choice is not None:
            _apply(group, choice, graph, done, asked_for=alpha is not None)
    graph.drop_unused()
    return done


def _apply(group: Group, choice: Choice, graph: Graph, done: Smoothed, *, asked_for: bool) -> None:
    divisor = fold.into_producer(group, choice.factors, graph)
    if divisor:
        done.folded += 1
    elif asked_for or choice.gain <= _WORTH_A_NODE:
        fold.by_node(group, choice.factors, graph)
        done.multiplied += 1
    else:
        return
    group.multiply_rows(choice.factors, graph)
    done.alphas[str(group.data.name)] = choice.alpha
