"""Bare sessions of the runtimes in turns: each in a process of its own, ratios taken within a turn.

So contestants never share a machine moment, a session or a thread pool, and a slow minute of the machine
slows all of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

WORKER = Path(__file__).with_name("bare.py")


@dataclass(frozen=True)
class Times:
    """Median seconds of each contestant: [rounds, cases]."""

    seconds: Mapping[str, np.ndarray]
    base: str

    def milliseconds(self, name: str) -> np.ndarray:
        """Medians over the rounds, [cases]."""
        return 1e3 * np.median(self.seconds[name], axis=0)

    def speedups(self, name: str) -> np.ndarray:
        """How many times faster than the base, turn by turn: [rounds, cases]."""
        return np.asarray(self.seconds[self.base] / self.seconds[name])

    def cell(self, name: str, case: int) -> str:
        """Milliseconds, the median speedup, its smallest and its largest."""
        ratios = self.speedups(name)[:, case]
        return (
            f"{self.milliseconds(name)[case]:.2f} "
            f"({statistics.median(ratios):.2f}x, {ratios.min():.2f} to {ratios.max():.2f})"
        )


def take(
    contestants: Mapping[str, Path],
    cases: Sequence[Mapping[str, np.ndarray]],
    *,
    rounds: int,
    seconds: float = 1.0,
    threads: int = 0,
) -> Times:
    """Measures every model on every case; the first is the base. An input that a model lacks is left out."""
    taken: dict[str, list[list[float]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, case in enumerate(cases):
            files.append(f"{folder}/{i}.npz")
            np.savez(files[-1], **case)
        for turn in range(rounds):
            order = list(contestants)
            for name in order if turn % 2 == 0 else reversed(order):
                told = [WORKER, contestants[name], json.dumps(files), seconds, threads]
                done = subprocess.run([sys.executable, *map(str, told)], check=True, capture_output=True)
                taken[name].append(json.loads(done.stdout))
    return Times({name: np.array(rows) for name, rows in taken.items()}, next(iter(contestants)))


def table(title: str, times: Times, cases: Sequence[str], more: Mapping[str, Mapping[str, str]]) -> Table:
    """One row per contestant; `more` adds columns: heading to contestant to cell."""
    made = Table("model", title=f"{title}: ms (speedup, smallest to largest over the rounds)")
    for heading in (*cases, *more):
        made.add_column(heading, justify="right")
    for name in times.seconds:
        cells = [times.cell(name, i) for i in range(len(cases))]
        made.add_row(name, *cells, *(column.get(name, "") for column in more.values()))
    return made
