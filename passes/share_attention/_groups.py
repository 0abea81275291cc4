"""Which neighbouring layers form a group behind one leader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Group:
    """Places in the stack that follow each other; the first leads."""

    members: tuple[int, ...]

    @property
    def leader(self) -> int:
        """The place whose probabilities all members use."""
        return self.members[0]

    def moved(self, by: int) -> Group:
        """The same group where places are counted from elsewhere."""
        return Group(tuple(place + by for place in self.members))


def group(alike: np.ndarray, *, followers: int | None, threshold: float, largest: int | None) -> list[Group]:
    """Joins neighbouring groups, the cheapest first, until enough layers follow or none are alike enough.

    What a join costs is how much less alike the members are to their leader. Every join makes one more
    follower.

    Args:
        alike: [layers, layers]; how well the row leads the column, 1 is perfect.
        followers: stop at that many; None: no limit.
        threshold: every follower is at least so much like its leader.
        largest: members of a group at most; None: no limit.
    """
    groups = [Group((place,)) for place in range(len(alike))]
    while followers is None or len(alike) - len(groups) < followers:
        joined = [Group(one.members + other.members) for one, other in zip(groups, groups[1:], strict=False)]
        costs = [
            (_loss(join, alike) - _loss(one, alike) - _loss(other, alike), index)
            for index, (one, other, join) in enumerate(zip(groups, groups[1:], joined, strict=False))
            if (largest is None or len(join.members) <= largest) and _worst(join, alike) >= threshold
        ]
        if not costs:
            break
        _, index = min(costs)
        groups[index : index + 2] = [joined[index]]
    return groups


def _loss(group: Group, alike: np.ndarray) -> float:
    return sum(1 - float(alike[group.leader, place]) for place in group.members[1:])


def _worst(group: Group, alike: np.ndarray) -> float:
    return min(float(alike[group.leader, place]) for place in group.members[1:])
