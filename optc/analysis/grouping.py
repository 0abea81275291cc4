"""Groups the segments of the streams into blocks, and gives every node of the graph its group."""

from __future__ import annotations

from dataclasses import dataclass

from optc.analysis.flow import Flow
from optc.analysis.residual import Join
from optc.analysis.stream import Segment, split_units

PROLOGUE, EPILOGUE, NOWHERE = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Draft:
    """A block before its nodes are known."""

    stream: int
    segments: tuple[Segment, ...]
    is_transition: bool = False


def drafts_of(stream: int, segments: list[Segment]) -> list[Draft]:
    """Groups the joins between two transitions by what repeats; every other segment is a block of its own."""
    residual = any(segment.join is not None for segment in segments)
    drafts: list[Draft] = []
    run: list[Segment] = []
    for segment in segments:
        if segment.join is not None:
            run.append(segment)
            continue
        drafts += _units(stream, run)
        drafts.append(Draft(stream, (segment,), is_transition=residual))
        run = []
    return drafts + _units(stream, run)


def _units(stream: int, run: list[Segment]) -> list[Draft]:
    kinds = "".join(_letter(segment.join) for segment in run)
    left = iter(run)
    return [Draft(stream, tuple(next(left) for _ in unit)) for unit in split_units(kinds)]


def _letter(join: Join | None) -> str:
    return join.kind[0] if join is not None else "-"


def assign(flow: Flow, drafts: list[Draft], starts: list[int]) -> list[int]:
    """Group of every node: the number of its draft, PROLOGUE or EPILOGUE."""
    groups = [NOWHERE] * len(flow.nodes)
    by_size = sorted(range(len(drafts)), key=lambda i: drafts[i].segments[0].join is None)  # transitions last
    for index in by_size:
        for segment in drafts[index].segments:
            for owner in flow.owners(segment.ops):
                groups[owner] = index if groups[owner] == NOWHERE else groups[owner]
    for owner in _ancestors(flow, starts):
        groups[owner] = PROLOGUE if groups[owner] == NOWHERE else groups[owner]
    users = _users(flow)
    for owner in range(len(groups) - 1, -1, -1):
        if groups[owner] != NOWHERE:
            continue
        needed_by = {groups[user] for user in users[owner]} - {EPILOGUE}
        if not needed_by:
            groups[owner] = EPILOGUE
        else:
            groups[owner] = needed_by.pop() if len(needed_by) == 1 else PROLOGUE
    return groups


def _ancestors(flow: Flow, values: list[int]) -> set[int]:
    """Positions of all nodes that the values are computed from."""
    owners: set[int] = set()
    stack = [flow.producer[value] for value in values]
    seen: set[int] = set()
    while stack:
        op = stack.pop()
        if op < 0 or op in seen:
            continue
        seen.add(op)
        owners.add(flow.ops[op].owner)
        stack.extend(flow.producer[value] for value in flow.ops[op].inputs)
    return owners


def _users(flow: Flow) -> list[set[int]]:
    users: list[set[int]] = [set() for _ in flow.nodes]
    for op in flow.ops:
        for value in op.inputs:
            producer = flow.producer[value]
            if producer >= 0 and flow.ops[producer].owner != op.owner:
                users[flow.ops[producer].owner].add(op.owner)
    return users
