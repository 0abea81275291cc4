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
from optc.passes.quantize.static.sites import FEW_TERMS, Site

from . import fold, outliers
from .choose import ALPHAS, Choice, choose, largest_channels
from .groups import Group, groups_of
from .recentre import recentre
from .statistics import Channels

__all__ = ["Smoothed", "smooth"]

_WORTH_A_NODE = 0.3  # of the expected error must be left where smoothing costs a multiplication at run time
_WORTH_A_PRODUCT = 0.25  # of that must be left where channels are multiplied in float
_NOT_WORTH_IT = 0.5  # an error that smoothing would leave and that outliers are held against
_OUTLIERS = FEW_TERMS  # channels that are taken out together, into a product that stays in float


@dataclass
class Smoothed:
    """What became of the inputs.

    Attributes:
        recentred: behind norms: channels were moved to around zero.
        folded: divided by the operators before them: nothing is left to do at run time.
        multiplied: divided by a node of their own.
        outliers: channels taken out by input name; a small product in float computes their part.
        alphas: the exponent by input name.
    """

    recentred: int = 0
    folded: int = 0
    multiplied: int = 0
    outliers: dict[str, list[int]] = field(default_factory=dict)
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
        alpha: the exponent; None chooses one for each input, and moves channels and takes outliers out where
            that pays.
        per_channel: whether weights will have a scale per output channel.
        limit: the largest code of a weight.
    """
    done = Smoothed(recentred=recentre(model, sites, samples, ctx) if alpha is None else 0)
    groups = groups_of([site.renewed() for site in sites])
    probes = {str(group.data.name): Channels() for group in groups}
    asked = {name: [probe] for name, probe in probes.items()}
    observe(model, asked, samples, threads=ctx.threads, progress=ctx.progress)
    graph = Graph(model)
    for group in groups:
        seen = probes[str(group.data.name)]
        if not seen.usable:
            continue
        choice = _choose(group, seen, alpha, per_channel, limit)
        if choice is not None:
            _apply(group, choice, graph, done, asked_for=alpha is not None)
    graph.drop_unused()
    return done


def _choose(
    group: Group, seen: Channels, alpha: float | None, per_channel: bool, limit: int
) -> Choice | None:
    """Without outliers, unless a few channels are what makes the error and folding is not possible."""
    matrix = group.matrix()
    if alpha is not None:
        return choose(seen, matrix, (alpha,), per_channel, limit)
    simple = choose(seen, matrix, ALPHAS, per_channel, limit)
    if len(group.sites) != 1 or len(matrix) <= _OUTLIERS or fold.edits_for(group) is not None:
        return simple
    channels = largest_channels(seen, _OUTLIERS)
    apart = choose(seen, matrix, ALPHAS, per_channel, limit, channels)
    least = min(_NOT_WORTH_IT, simple.gain if simple is not None else 1.0)
    return apart if apart is not None and apart.gain < _WORTH_A_PRODUCT * least else simple


def _apply(group: Group, choice: Choice, graph: Graph, done: Smoothed, *, asked_for: bool) -> None:
    name = str(group.data.name)
    if len(choice.outliers):
        outliers.take_out(group, choice, graph)
        done.outliers[name] = choice.outliers.tolist()
    elif fold.into_producer(group, choice.factors, graph):
        done.folded += 1
    elif asked_for or choice.gain <= _WORTH_A_NODE:
        fold.by_node(group, choice.factors, graph)
        done.multiplied += 1
    else:
        return
    if not len(choice.outliers):
        group.multiply_rows(choice.factors, graph)
    done.alphas[name] = choice.alpha
