"""A contestant in a process of its own: opens one program and times its calls when it is told to.

One JSON object per line comes in on stdin and one goes out on what was stdout, until stdin ends. The first
names the program, ``{"program": "module:function", "arguments": {...}}``: the function is called with the
arguments, imports what it needs, and returns what loads the program; that returns a call without arguments.

It is imported by any interpreter that takes part in a comparison, so it needs nothing but numpy.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from optc.errors import UserError

Call = Callable[[], Any]
Loader = Callable[[], Call]

_PR_SET_PDEATHSIG = 1
_OTHER_INPUTS = "give inputs that fit it, with --inputs or --dim"


class Worker:
    """The program of this process."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        module, _, name = first["program"].partition(":")
        self._loader: Loader = getattr(importlib.import_module(module), name)(**first["arguments"])
        self._call: Call | None = None

    @property
    def loaded(self) -> bool:
        """Whether it can be called: what fails from then on may be the inputs."""
        return self._call is not None

    def open(self) -> dict[str, Any]:
        """Loads the program and calls it once; in seconds, how long both took together."""
        started = time.perf_counter()
        call = self._loader()
        self._call = call
        call()
        return {"seconds": time.perf_counter() - started}

    def block(self, calls: int, warm: int) -> dict[str, Any]:
        """Median seconds of ``calls`` calls, behind ``warm`` that do not count."""
        assert self._call is not None
        for _ in range(warm):
            self._call()
        times = np.empty(calls)
        for number in range(calls):
            started = time.perf_counter()
            self._call()
            times[number] = time.perf_counter() - started
        return {"seconds": float(np.median(times))}

    def answers(self, path: str) -> dict[str, Any]:
        """Writes the outputs of one call, in their order, to an ``.npz`` file."""
        assert self._call is not None
        arrays = list(_arrays(self._call()))
        np.savez(path, *arrays)
        return {"count": len(arrays)}

    def peak(self) -> dict[str, Any]:
        """Peak of resident memory so far, in bytes."""
        return {"bytes": peak_bytes()}


def peak_bytes() -> int:
    """Peak of resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # not rusage: on Linux that starts with what the parent had when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Serves until stdin ends."""
    die_with_parent()
    with _replies() as replies:
        worker: Worker | None = None
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if worker is None:
                    worker, reply = Worker(request), dict[str, Any]()
                else:
                    reply = getattr(worker, request.pop("do"))(**request)
            except UserError as error:
                reply = {"error": error.what, "where": error.where, "hint": error.hint}
            except Exception as error:  # told to the parent, which raises it
                called = worker is not None and worker.loaded
                reply = {"error": _said(error), "hint": _OTHER_INPUTS if called else None}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


@contextlib.contextmanager
def _replies() -> Iterator[IO[str]]:
    """The stream to the parent; what the program prints goes to stderr."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        yield replies


def die_with_parent() -> None:
    """A worker that was stopped between two blocks would outlive a killed parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The tensors in an answer: arrays, torch tensors, and containers of them."""
    if isinstance(value, np.ndarray):
        yield value
    elif hasattr(value, "detach"):
        value = value.detach().cpu()
        yield (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _arrays(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, (bool, int, float)):
        yield np.asarray(value)


def _said(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


if __name__ == "__main__":
    main()
