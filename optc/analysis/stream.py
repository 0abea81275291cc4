"""A residual stream cut into segments: each from one single value that everything passes to the next."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from optc.analysis.flow import Flow
from optc.analysis.residual import ROOT, Join

LONGEST_UNIT = 8  # joins in one block
FAN_OUT = 64  # readers looked at when searching for the norm that follows a sum


@dataclass(frozen=True)
class Segment:
    """The ops between two cuts of the stream; ``join`` is None where no skip connection spans them."""

    entry: int
    exit: int
    ops: tuple[int, ...]
    join: Join | None


def cuts_between(idom: dict[int, int], above: int, below: int) -> list[int]:
    """The single values on the way from ``above`` to ``below``, ``below`` last; empty when equal."""
    cuts = []
    while below not in (above, ROOT):
        cuts.append(below)
        below = idom[below]
    return cuts[::-1]


def residual_segments(flow: Flow, idom: dict[int, int], chain: list[Join]) -> list[Segment]:
    """Cuts a chain of joins into segments without gaps.

    What follows a sum and is light (the norm of a post-norm layer, the ReLU of a ResNet) belongs to it. Where
    nothing says how much of what follows belongs to it (the last one, or before a heavy stretch), the same
    ops do as in its siblings. A heavy gap is a segment of its own.
    """
    gaps = [cuts_between(idom, a.out, b.entry) for a, b in pairwise(chain)]
    light = [
        not any(flow.ops[op].heavy for op in _ops(flow, a.out, gap))
        for (a, _), gap in zip(pairwise(chain), gaps, strict=True)
    ]
    tails = _tails(flow, chain, gaps, light)
    segments = []
    for join, gap, is_light, tail in zip(chain, [*gaps, []], [*light, False], tails, strict=True):
        exit = gap[-1] if gap and is_light else _tail_exit(flow, idom, join.out, tail)
        segments.append(Segment(join.entry, exit, tuple(flow.between(join.entry, exit)), join))
        if gap and not is_light:
            segments.append(Segment(exit, gap[-1], tuple(flow.between(exit, gap[-1])), None))
    return segments


def _tails(flow: Flow, chain: list[Join], gaps: list[list[int]], light: list[bool]) -> list[tuple[str, ...]]:
    """For every join the op types that follow its siblings: the joins at its place in other blocks."""
    places = [
        (unit, i) for unit in split_units("".join(join.kind[0] for join in chain)) for i in range(len(unit))
    ]
    seen: dict[tuple[str, int] | None, Counter[tuple[str, ...]]] = {}
    for join, place, gap, is_light in zip(chain, places, gaps, light, strict=False):
        if is_light:
            for key in (place, None):  # None: of any sibling, for a place that occurs once
                seen.setdefault(key, Counter())[_types(flow, join.out, gap)] += 1
    tails = []
    for place in places:
        counted = seen.get(place) or seen.get(None)
        tails.append(counted.most_common(1)[0][0] if counted else ())
    return tails


def plain_segments(flow: Flow, idom: dict[int, int]) -> list[Segment]:
    """Cuts a network without skip connections: every heavy stretch and the light ops that follow it."""
    depth = {ROOT: 0}
    for value in sorted(idom):
        depth[value] = depth[idom[value]] + (value != ROOT)
    outputs = flow.returned & depth.keys()
    deepest = max(outputs or depth, key=lambda value: (depth[value], value))
    cuts = [cut for cut in cuts_between(idom, ROOT, deepest) if flow.values[cut] is not None]
    stretches: list[list[int]] = []  # the cuts of each, from its entry on
    for above, below in pairwise(cuts):
        if any(flow.ops[op].heavy for op in flow.between(above, below)):
            stretches.append([above, below])
        elif stretches:
            stretches[-1].append(below)
    if len(stretches) > 1:
        stretches[-1] = _without_ending(flow, stretches[-2], stretches[-1])
    return [Segment(cut[0], cut[-1], tuple(flow.between(cut[0], cut[-1])), None) for cut in stretches]


def split_units(kinds: str) -> list[str]:
    """Splits e.g. ``"cccamamam"`` into what repeats: ``c c c am am am``; a lone ``aam`` stays together."""
    units = []
    while kinds:
        unit, count = _repeated(kinds)
        if unit:
            later = [(offset, *_repeated(kinds[offset:])) for offset in range(1, len(unit))]
            # "mamam" is m am am, not ma ma m: layers open with their attention
            if any(
                other[0] == "a" != unit[0] and len(other) * n >= len(unit) * count
                for _, other, n in later
                if other
            ):
                unit, count = "", 0
        if not unit:
            unit, count = re.findall("^a+m+|^.", kinds)[0], 1
        units += [unit] * count
        kinds = kinds[len(unit) * count :]
    return units


def _repeated(kinds: str) -> tuple[str, int]:
    """The unit at the start that repeats over the longest stretch, the shortest of these, and how often."""
    best, times = "", 0
    for length in range(1, min(LONGEST_UNIT, len(kinds) // 2) + 1):
        unit = kinds[:length]
        count = 1
        while kinds.startswith(unit, count * length):
            count += 1
        lone_attentions = set(unit) == {"a"} and kinds.startswith("m", count * length)
        if count > 1 and count * length > len(best) * times and not lone_attentions:
            best, times = unit, count
    return best, times


def _ops(flow: Flow, above: int, cuts: list[int]) -> list[int]:
    return flow.between(above, cuts[-1]) if cuts else []


def _types(flow: Flow, above: int, cuts: list[int]) -> tuple[str, ...]:
    return tuple(flow.ops[op].op_type for op in _ops(flow, above, cuts))


def _tail_exit(flow: Flow, idom: dict[int, int], out: int, tail: tuple[str, ...]) -> int:
    """The value after ``out`` that closes ops like ``tail``, if there is one; else ``out`` itself."""
    for value in _following(flow, idom, out, len(tail)):
        if flow.values[value] is None:
            continue
        if tuple(flow.ops[op].op_type for op in flow.between(out, value)) == tail:
            return value
    if flow.values[out] is not None:
        return out
    owner = flow.nodes[flow.ops[flow.producer[out]].owner]  # the sum never leaves its node, what follows does
    return next(flow.number[value] for value in owner.outputs if value.uses() or value.is_graph_output())


def _following(flow: Flow, idom: dict[int, int], out: int, steps: int) -> list[int]:
    """Values computed from ``out`` alone, at most ``steps`` ops after it, nearest first."""
    found, level = [], [out]
    for _ in range(steps):
        readers = sorted({op for value in level for op in flow.users[value]})[:FAN_OUT]
        level = [
            value for op in readers for value in flow.ops[op].outputs if value in idom and value not in found
        ]
        found += level
    return [value for value in found if out in _dominators_of(idom, value, steps)]


def _dominators_of(idom: dict[int, int], value: int, steps: int) -> Iterator[int]:
    for _ in range(steps):
        value = idom[value]
        yield value


def _without_ending(flow: Flow, before: list[int], last: list[int]) -> list[int]:
    """Leaves a network's own ending (softmax, reshape ...) out of its last stretch: what is new there."""
    kept = last[:2]
    for (above, below), (other_above, other_below) in zip(
        pairwise(last[1:]), pairwise(before[1:]), strict=False
    ):
        if _types(flow, above, [below]) != _types(flow, other_above, [other_below]):
            break
        kept.append(below)
    return kept
