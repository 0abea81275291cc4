"""What `optc bench` shows: who is faster, by how much, and whether that is more than noise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optc import checks
from optc.bench.contestant import Contestant, parse
from optc.bench.feeds import write_inputs
from optc.bench.process import Process
from optc.bench.rounds import Found, contest, verdict
from optc.bench.view import render
from optc.cores import physical_cores
from optc.difference import difference

__all__ = ["bench_data", "render"]

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def bench_data(
    texts: Sequence[str],
    *,
    inputs: Path | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int | None = None,
    sessions: int = 7,
    seconds: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures models side by side, each in processes of its own; the first is the reference.

    Args:
        texts: models, artifacts and factories as the command line names them; one alone is only timed.
        inputs: an ``.npz`` file for all of them; without it a factory's example, or random values.
        dims: sizes of named dims of random inputs.
        threads: of every contestant; None is the number of physical cores.
        sessions: fresh processes of each; below six there is no interval.
        seconds: how long each is timed in a session.

    Raises:
        UserError: there is no such contestant, or it cannot be run on the inputs.
    """
    checks.numbers(seed=seed, threads=threads, seconds=seconds)
    contestants = parse(list(texts))
    threads = threads if threads is not None else physical_cores()
    numbers: Iterable[int] = range(sessions)
    with tempfile.TemporaryDirectory(prefix="optc-bench-") as folder:
        file = Path(folder) / "inputs.npz"
        note = write_inputs(contestants, inputs, dims or {}, seed, file)
        opener = partial(_open, {c.name: c for c in contestants}, {"inputs": str(file), "threads": threads})
        answers = Answers(Path(folder))
        found = contest(
            [c.name for c in contestants],
            opener,
            sessions=numbers if progress is None else progress(numbers, "sessions"),
            seconds=seconds,
            seed=seed,
            look=answers.take,
        )
        with np.load(file) as arrays:
            shapes = {name: f"{a.dtype}[{', '.join(map(str, a.shape))}]" for name, a in arrays.items()}
    return {
        "reference": contestants[0].name,
        "inputs": {"from": note, "arrays": shapes},
        "threads": threads,
        "sessions": sessions,
        "contestants": [
            _row(c, found[c.name], answers.error(contestants[0].name, c.name)) for c in contestants
        ],
    }


def _open(
    contestants: Mapping[str, Contestant], shared: Mapping[str, Any], name: str
) -> AbstractContextManager[Process]:
    contestant = contestants[name]
    return closing(Process(name, contestant.program, {**contestant.arguments, **shared}))


class Answers:
    """The outputs of every contestant, from the first session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, dict[str, np.ndarray]] = {}

    def take(self, processes: Mapping[str, Process]) -> None:
        """Keeps the outputs of the contestants that have not been asked for theirs."""
        for name in processes.keys() - self._arrays.keys():
            file = self._folder / "answers.npz"
            processes[name].answers(file)
            with np.load(file) as arrays:
                self._arrays[name] = dict(arrays.items())

    def error(self, reference: str, name: str) -> float | None:
        """The worst relative L2 error of the float outputs, in order; None where they do not compare."""
        found = difference(self._arrays[reference], self._arrays[name])
        return found.rel_l2 if np.isfinite(found.rel_l2) else None


def _row(contestant: Contestant, found: Found, error: float | None) -> dict[str, Any]:
    speedup = found.speedup
    return {
        "name": contestant.name,
        "kind": contestant.mode or contestant.kind,
        "ms": float(np.median(found.seconds)) * 1e3,
        "ms_by_session": [seconds * 1e3 for seconds in found.seconds],
        "speedup": speedup.ratio,
        "low": speedup.low or None,
        "high": speedup.high if np.isfinite(speedup.high) else None,
        "verdict": verdict(speedup),
        "load_seconds": float(np.median(found.load)),
        "peak_bytes": int(np.median(found.peak)),
        "file_bytes": contestant.file_bytes,
        "rel_l2": error,
    }
