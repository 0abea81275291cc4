"""What the backend did in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Stats:
    """Counts since the process started, or since `reset_stats`: ``stats().graphs``, ``stats()["graphs"]``.

    Attributes:
        graphs: graphs that an executable stands for, each counted once.
        artifact_calls: calls that an executable answered.
        fallbacks: graphs that run in eager mode instead, or did for one call at least.
        reasons: why they do, with how many graphs each.
        eager_calls: calls that eager mode answered because of that.
        recompiles: executables made because the weights, or a number baked into one, had changed.
        cache_hits: executables that came from the disk cache.
        cache_misses: executables that were looked for there in vain.
    """

    graphs: int = 0
    artifact_calls: int = 0
    fallbacks: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    eager_calls: int = 0
    recompiles: int = 0
    cache_hits: int = 0
    cache_misses: int = 0

    def __getitem__(self, name: str) -> Any:
        if name not in {f.name for f in fields(self)}:
            raise KeyError(name)
        return getattr(self, name)


class Counters:
    """The process-wide counts; adding is safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """One more of a field of `Stats`."""
        with self._lock:
            self._counts[name] += 1

    def fell_back(self, reason: str) -> None:
        """One more graph that runs in eager mode."""
        with self._lock:
            self._counts["fallbacks"] += 1
            self._reasons[reason] += 1

    def read(self) -> Stats:
        """The counts now."""
        with self._lock:
            return Stats(reasons=dict(self._reasons), **self._counts)

    def reset(self) -> None:
        """Everything to zero."""
        with self._lock:
            self._counts.clear()
            self._reasons.clear()


COUNTERS = Counters()


def stats() -> Stats:
    """What the backend did in this process so far."""
    return COUNTERS.read()


def reset_stats() -> None:
    """Starts counting from zero."""
    COUNTERS.reset()
