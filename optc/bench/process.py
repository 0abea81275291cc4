"""A worker process as its parent sees it: asked one thing at a time, and stopped in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optc
from optc.errors import UserError

_ROOT = Path(optc.__file__).resolve().parent.parent
_TAIL = 400  # characters of what a dead worker said last


class Process:
    """One contestant in a fresh process.

    Between two requests the process is stopped (SIGSTOP): threads that spin while they wait for work, as
    those of every inference runtime do, would take the cores from the contestant whose turn it is.

    Args:
        name: of the contestant, for messages.
        program: ``module:function``, as `worker` describes it.
        python: the interpreter, for a contestant whose packages are installed elsewhere.
        environment: variables added to those of this process.
        path: folders in which ``program`` may be found besides.
    """

    def __init__(
        self,
        name: str,
        program: str,
        arguments: Mapping[str, Any],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        path: tuple[Path, ...] = (),
    ) -> None:
        self._name = name
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed with the process
        folders = [str(folder) for folder in (_ROOT, *path)]
        inherited = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            [python, "-P", "-m", "optc.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={
                **os.environ,
                **(environment or {}),
                "PYTHONPATH": os.pathsep.join([*folders, *([inherited] if inherited else [])]),
            },
        )
        try:
            self._ask({"program": program, "arguments": dict(arguments)})
        except BaseException:
            self.close()
            raise

    def open(self) -> float:
        """Loads the program and calls it once; seconds."""
        return float(self._ask({"do": "open"})["seconds"])

    def block(self, calls: int, warm: int) -> float:
        """Median seconds of ``calls`` calls, behind ``warm`` that do not count."""
        return float(self._ask({"do": "block", "calls": calls, "warm": warm})["seconds"])

    def answers(self, path: Path) -> int:
        """Writes the outputs of one call to an ``.npz`` file; how many there are."""
        return int(self._ask({"do": "answers", "path": str(path)})["count"])

    def peak(self) -> int:
        """Peak of resident memory so far, in bytes."""
        return int(self._ask({"do": "peak"})["bytes"])

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()  # a stopped process would not see the end of its input
        self._process.communicate()
        self._said.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        os.kill(process.pid, signal.SIGCONT)
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._died()
        os.kill(process.pid, signal.SIGSTOP)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise self._failed(reply)
        return reply

    def _failed(self, reply: Mapping[str, Any]) -> UserError:
        return UserError(
            f"{self._name} cannot be run: {reply['error']}",
            where=reply.get("where") or self._name,
            hint=reply.get("hint"),
        )

    def _died(self) -> UserError:
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().strip()[-_TAIL:]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return UserError(
            f"the process of {self._name} ended ({how})" + (f", and said: ...{said}" if said else ""),
            where=self._name,
            hint="it may have run out of memory; measure fewer contestants at once",
        )
