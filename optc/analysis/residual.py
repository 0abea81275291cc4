"""Residual joins, the additions that close a skip connection, and the chains that they form."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx

from optc.analysis.flow import Flow, Role
from optc.analysis.optypes import ATTENTIONS, CONVOLUTIONS, MATMULS, RECURRENT, SUMS

MAX_TERMS = 64  # wider sums are mixtures of experts and the like
WALK_BUDGET = 40  # values visited per op of the graph, over all walks: keeps hostile graphs linear
SKIP_LEVELS = 3  # skips around skips: the whole trunk, a group of layers, a layer
BYPASS_STEPS = 16  # single values looked at before a candidate entry: a norm written out has fewer
ROOT = -1


@dataclass(frozen=True, eq=False)
class Join:
    """``out = entry + branches(entry)``; numbers are those of the Flow.

    Attributes:
        entry: the last value that all terms are computed from (a term itself when the skip is an identity).
        out: the sum.
        terms: what is added up.
        ops: everything between entry and out, ascending.
        feeds: per op, the terms that it feeds, as a bit mask over ``terms``.
        kind: "attention", "conv", "recurrent" or "mlp".
    """

    entry: int
    out: int
    terms: tuple[int, ...]
    ops: tuple[int, ...]
    feeds: dict[int, int] = field(repr=False)
    kind: str


def find_joins(flow: Flow, idom: dict[int, int]) -> list[Join]:
    """Returns all residual joins with a heavy operation inside, by the order of their sums.

    A sum of sums is one join (a layer whose attention and MLP run in parallel), unless an inner sum closes a
    skip connection that starts elsewhere (the last layer of a trunk, under a skip over the whole trunk).
    """
    budget = [WALK_BUDGET * (len(flow.ops) + 100)]
    partial: dict[int, tuple[list[int], Join | None]] = {}  # sums that only another sum reads
    found = []
    for op in flow.ops:
        if op.op_type not in SUMS:
            continue
        out = op.outputs[0]
        terms = _flatten(flow, op.inputs, partial, set())
        join = _trace(flow, idom, out, terms, budget)
        closed = {value for value in op.inputs if _closes_elsewhere(partial.get(value), join)}
        if closed:
            found += [inner for value in closed if (inner := partial[value][1]) is not None]
            terms = _flatten(flow, op.inputs, partial, closed)
            join = _trace(flow, idom, out, terms, budget)
        if flow.is_private(out) and flow.ops[flow.users[out][0]].op_type in SUMS:
            partial[out] = (terms, join)
        elif join is not None:
            found.append(join)
    return sorted(found, key=lambda join: join.out)


def _flatten(
    flow: Flow, inputs: Sequence[int], partial: dict[int, tuple[list[int], Join | None]], closed: set[int]
) -> list[int]:
    terms: set[int] = set()
    for value in inputs:
        if value in partial and value not in closed:
            terms.update(partial[value][0])
        elif flow.role[value] == Role.DATA:
            terms.add(value)
    return sorted(terms)


def _closes_elsewhere(inner: tuple[list[int], Join | None] | None, outer: Join | None) -> bool:
    join = inner[1] if inner is not None else None
    if join is None or join.entry not in join.terms:
        return False
    return outer is None or outer.entry != join.entry


def kind_of(flow: Flow, ops: Sequence[int]) -> str | None:
    """What a region computes, or None when nothing in it is heavy.

    Attention is two products of data with data (scores, then the weighted sum), or an operator for it.
    """
    heavy = [flow.ops[op] for op in ops if flow.ops[op].heavy]
    types = {op.op_type for op in heavy}
    products = sum(
        op.op_type in MATMULS and sum(flow.role[value] == Role.DATA for value in op.inputs) > 1
        for op in heavy
    )
    if products > 1 or types & ATTENTIONS:
        return "attention"
    if types & CONVOLUTIONS:
        return "conv"
    if types & RECURRENT:
        return "recurrent"
    return "mlp" if heavy else None


def _trace(flow: Flow, idom: dict[int, int], out: int, terms: list[int], budget: list[int]) -> Join | None:
    """Walks back from the terms, latest value first, to the first value that all of them are made of."""
    if not 1 < len(terms) <= MAX_TERMS:
        return None
    everything = (1 << len(terms)) - 1
    feeds = {term: 1 << i for i, term in enumerate(terms)}
    pending = [1] * len(terms)  # per term, how many values of the frontier still feed it
    frontier = [-term for term in terms]
    heapq.heapify(frontier)
    seen: dict[int, int] = {}
    while frontier and budget[0] > 0:
        budget[0] -= 1
        value = -heapq.heappop(frontier)
        mask = feeds[value]
        shared = mask == everything and flow.values[value] is not None
        if shared and (value in terms or not _is_bypassed(idom, value, feeds, seen)):
            return _close(flow, value, out, terms, seen)
        seen[value] = mask
        for operand in flow.data_inputs(value):
            if operand not in feeds:
                heapq.heappush(frontier, -operand)
                feeds[operand] = 0
            _count(mask & ~feeds[operand], 1, pending)
            feeds[operand] |= mask
        _count(mask, -1, pending)
        if not all(pending):
            return None  # one term has no more ancestors: they share none
    return None


def _is_bypassed(idom: dict[int, int], value: int, feeds: dict[int, int], seen: dict[int, int]) -> bool:
    """Whether some term also reads what ``value`` is made of (the stream before its norm, say)."""
    for _ in range(BYPASS_STEPS):
        value = idom[value]
        if value in feeds and value not in seen:
            return True
    return False


def _count(mask: int, step: int, pending: list[int]) -> None:
    while mask:
        lowest = mask & -mask
        pending[lowest.bit_length() - 1] += step
        mask ^= lowest


def _close(flow: Flow, entry: int, out: int, terms: list[int], seen: dict[int, int]) -> Join | None:
    ops = flow.on_path(entry, {*seen, *_tree(flow, out, set(terms))})
    kind = kind_of(flow, ops)
    if kind is None or len({flow.ops[op].owner for op in ops}) == 1 and flow.values[out] is None:
        return None
    feeds: dict[int, int] = {}
    for value, mask in seen.items():
        feeds[flow.producer[value]] = feeds.get(flow.producer[value], 0) | mask
    return Join(entry, out, tuple(terms), tuple(ops), {op: feeds.get(op, 0) for op in ops}, kind)


def _tree(flow: Flow, out: int, terms: set[int]) -> set[int]:
    """The sum and the partial sums between it and the terms."""
    tree, stack = {out}, [out]
    while stack:
        inner = [v for v in flow.data_inputs(stack.pop()) if v not in terms and v not in tree]
        tree.update(inner)
        stack.extend(inner)
    return tree


def dominators(flow: Flow) -> dict[int, int]:
    """For every data value the last single value that all data paths to it run through, or ROOT."""
    graph = nx.DiGraph()
    graph.add_node(ROOT)
    for value, role in enumerate(flow.role):
        if role == Role.DATA:
            graph.add_edges_from((operand, value) for operand in flow.data_inputs(value) or [ROOT])
    found: dict[int, int] = dict(nx.immediate_dominators(graph, ROOT))
    found[ROOT] = ROOT
    return found


def find_chains(joins: list[Join], idom: dict[int, int], values: int) -> list[list[Join]]:
    """Returns the residual streams: chains of joins, each entered by what the one before it made.

    Joins inside the branch of another one (the terms of disentangled attention, a mixture of experts) are
    left out, unless the outer one stands alone around a chain (a skip over the whole trunk of a network).
    """
    level, inside = _nesting(joins)
    alone: list[list[Join]] = []
    for _ in range(SKIP_LEVELS):
        chains = _longest_first(level, idom, values)
        if not chains:
            break
        if len(chains[0]) > 1:
            return [chain for chain in chains if len(chain) > 1]
        alone = alone or chains[:1]
        level = sorted((inner for join in level for inner in inside.get(join, [])), key=lambda join: join.out)
    return alone


def _nesting(joins: list[Join]) -> tuple[list[Join], dict[Join, list[Join]]]:
    """Joins that lie in no other, and for each join those directly inside it."""
    by_op = {join.ops[-1]: join for join in joins}
    parent: dict[Join, Join] = {}
    for outer in sorted(joins, key=lambda join: len(join.ops)):
        for op in outer.ops[:-1]:
            inner = by_op.get(op)
            if inner is not None and inner not in parent and inner.entry >= outer.entry:
                parent[inner] = outer
    inside: dict[Join, list[Join]] = {}
    for join in joins:
        if join in parent:
            inside.setdefault(parent[join], []).append(join)
    return [join for join in joins if join not in parent], inside


def _longest_first(level: list[Join], idom: dict[int, int], values: int) -> list[list[Join]]:
    before = _links(level, idom, values)
    chains = []
    left = list(level)
    while left:
        free = set(left)
        depth: dict[Join, int] = {}
        for join in left:  # ascending, so the one before is done
            previous = before.get(join)
            depth[join] = 1 + (depth[previous] if previous in free and previous is not None else 0)
        last: Join | None = max(left, key=lambda join: (depth[join], len(join.ops), -join.out))
        chain = []
        while last is not None and last in free:
            chain.append(last)
            last = before.get(last)
        chains.append(chain[::-1])
        if len(chain) == 1:
            break  # all others stand alone too
        left = [join for join in left if join not in set(chain)]
    return chains


def _links(level: list[Join], idom: dict[int, int], values: int) -> dict[Join, Join]:
    """Join -> the join whose sum its entry is made of, and of nothing else."""
    sums_by_value = {join.out: join for join in level}
    anchor: dict[int, Join | None] = {ROOT: None}
    for value in range(values):
        if value in idom:
            anchor[value] = sums_by_value.get(value) or anchor[idom[value]]
    links = {}
    for join in level:
        previous = anchor[join.entry]
        if previous is not None:
            links[join] = previous
    return links
