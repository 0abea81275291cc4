"""Fuzzing for a while: what fails is made small and saved as text, which the test suite replays."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from .case import to_text
from .search import Found, search

CASES = Path(__file__).parent.parent / "fuzz_cases"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="of the first case; from the clock by default")
    parser.add_argument("--output", type=Path, default=CASES, help="folder for the failures")
    given = parser.parse_args()
    minutes, workers, folder = given.minutes, given.jobs, given.output
    start = given.seed if given.seed is not None else time.time_ns() % 10**9
    folder.mkdir(parents=True, exist_ok=True)
    print(f"fuzzing for {minutes:g} minutes, {workers} processes, from seed {start}; failures go to {folder}")
    began, shown = time.monotonic(), 0.0
    counts: Counter[str] = Counter()
    known: set[str] = set()
    for found in _results(start, began + 60 * minutes, workers):
        counts.update(found.counts)
        for failure in found.failures:
            if failure.key not in known:
                known.add(failure.key)
                _save(folder, failure.name, to_text(failure.case))
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            _progress(began, counts, len(known))
    _progress(began, counts, len(known))
    return 1 if known else 0


def _results(seed: int, deadline: float, workers: int) -> Iterator[Found]:
    """What the batches find, until the deadline; a batch that kills its process is tried case by case."""
    retry: list[range] = []
    while time.monotonic() < deadline:
        pending: dict[Future[Found], range] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, max_tasks_per_child=40) as pool:
            try:
                while pending or time.monotonic() < deadline:
                    while len(pending) < 2 * workers and time.monotonic() < deadline:
                        batch = retry.pop() if retry else range(seed, seed + 25)
                        seed = max(seed, batch.stop)
                        pending[pool.submit(search, batch)] = batch
                    for done in wait(pending, return_when=FIRST_COMPLETED).done:
                        yield done.result()
                        del pending[done]
            except BrokenProcessPool:
                for batch in pending.values():
                    if len(batch) == 1:
                        print(f"DIED: the case of seed {batch.start} may end the process", flush=True)
                    else:
                        retry += [range(one, one + 1) for one in batch]


def _save(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.txt"
    path.write_text(text, encoding="utf-8")
    print(f"FAILED: {text.splitlines()[0].lstrip('# ')}\n        saved as {path}", flush=True)


def _progress(began: float, counts: Counter[str], failures: int) -> None:
    done = sum(counts.values())
    seconds = time.monotonic() - began
    print(
        f"{seconds / 60:6.1f} min  {done} cases ({done / max(seconds, 1e-9):.1f}/s)  "
        f"{counts['invalid']} not runnable  {failures} different failures",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
