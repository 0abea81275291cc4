"""optc and its peers on the CPU: time, spread, memory, time to the first answer, and error.

    pip install -r benchmarks/requirements.txt
    python benchmarks/cpu.py                                  # everything; about an hour on two cores
    python benchmarks/cpu.py --models minilm --batch 1        # one model
    python benchmarks/cpu.py --table                          # what has been measured so far
    python benchmarks/cpu.py --int8                           # MiniLM-L6 in int8, calibrated on text

Every contestant is a process of its own, with the same number of threads, in float32 (but for --int8), and is
stopped while it is not its turn (`optc/bench/`). Each *session* starts fresh processes of all of them; ratios
are taken within a session. Models and results are kept, so a run that was interrupted goes on where it was.
The machine should do nothing else meanwhile, while optc is built too: it measures what pays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import int8
import peers
import zoo
from peers import EAGER, HERE, REFERENCE, Contestant, Task
from table import details, markdown

from optc.bench.process import Process
from optc.bench.report import Answers
from optc.bench.rounds import contest
from optc.cores import physical_cores
from optc.errors import UserError

ROOT = HERE.parent


def main() -> None:
    """Builds what is missing, measures what is missing, prints the table."""
    arguments = _arguments()
    chosen = [c for c in arguments.known if c.name in arguments.contestants]
    for task in _tasks(arguments):
        if not arguments.table:
            reference = [c for c in arguments.known if c.name == REFERENCE]
            for contestant in [*reference, *chosen]:  # the others start from its export and its inputs
                build(task, contestant)
        if not (arguments.table or arguments.build):
            measure(task, chosen, arguments)
    if not arguments.build:
        sessions, names = _results(arguments.keep), [c.name for c in arguments.known]
        sys.stdout.write(markdown(sessions, arguments.zoo, names, _absent(arguments)) + "\n")
        sys.stdout.write(details(sessions, arguments.zoo, names))


def build(task: Task, contestant: Contestant) -> None:
    """Builds one contestant in a process of its own, and notes what runs it or why it failed."""
    note = _note(task, contestant)
    if contestant.absent(task) or note.exists():
        return
    task.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    found = {"source": contestant.build(task)} if contestant.as_it_is else _built(task, contestant)
    if source := found.get("source"):
        found = _tried(task, contestant, source)
    note.write_text(json.dumps(found))
    what = f"{contestant.name} of {task.key}, batch {task.batch}"
    print(f"built {what}: {found} in {time.perf_counter() - started:.0f} s", flush=True)


def _built(task: Task, contestant: Contestant) -> dict[str, str]:
    command = [sys.executable, __file__, "--one", contestant.name, "--keep", str(task.folder.parent)]
    command += ["--models", task.key, "--batch", str(task.batch)]
    command += ["--int8"] if task.key in int8.MODELS else []
    done = subprocess.run(command, env=_environment(task), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return {"source": done.stdout.splitlines()[-1]}
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
    return {"failed": f"failed: {lines[-1][:300]}"}


def _tried(task: Task, contestant: Contestant, source: str) -> dict[str, str]:
    try:
        with closing(_process(task, contestant, source, physical_cores())) as process:
            process.open()
    except UserError as error:
        return {"failed": f"failed: {error.what[:300]}"}
    return {"source": source}


def measure(task: Task, chosen: list[Contestant], arguments: argparse.Namespace) -> None:
    """Adds sessions to the results until there are enough of them."""
    ready = {c.name: (c, source) for c in chosen if (source := _source(task, c)) is not None}
    file = arguments.keep / "results.jsonl"
    have = sum(s["model"] == task.key and s["batch"] == task.batch for s in _results(arguments.keep))
    for number in range(have, arguments.sessions):
        with tempfile.TemporaryDirectory() as folder:
            answers = Answers(Path(folder))
            found = contest(
                sorted(ready, key=lambda name: name != REFERENCE),
                lambda name: closing(_process(task, *ready[name], arguments.threads)),
                sessions=[number],
                seconds=arguments.seconds,
                look=answers.take,
            )
            rows = {
                name: {
                    "ms": one.seconds[0] * 1e3,
                    "speedup": one.ratios[0],
                    "first_answer_seconds": one.load[0],
                    "peak_bytes": one.peak[0],
                    "rel_l2": answers.error(EAGER, name) if EAGER in ready else None,
                }
                for name, one in found.items()
            }
        session = {"model": task.key, "batch": task.batch, "threads": arguments.threads, "rows": rows}
        with file.open("a") as out:
            out.write(json.dumps(session) + "\n")


def _process(task: Task, contestant: Contestant, source: str, threads: int) -> Process:
    return Process(
        contestant.name,
        contestant.program,
        {"source": source, "inputs": str(task.inputs), "threads": threads, **contestant.arguments},
        environment={**_environment(task), **contestant.environment},
        path=(HERE,),
    )


def _build_here(arguments: argparse.Namespace) -> None:
    """In the process of one build."""
    (task,) = _tasks(arguments)
    (contestant,) = (c for c in arguments.known if c.name == arguments.one)
    print(contestant.build(task))


def _tasks(arguments: argparse.Namespace) -> Iterator[Task]:
    for model in arguments.models:
        for batch in arguments.batch:
            yield Task(model, arguments.zoo[model], batch, arguments.keep / f"{model}-{batch}")


def _note(task: Task, contestant: Contestant) -> Path:
    return task.folder / f"{contestant.name.replace(' ', '-')}.json"


def _source(task: Task, contestant: Contestant) -> str | None:
    note = _note(task, contestant)
    found: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    return found.get("source")


def _absent(arguments: argparse.Namespace) -> dict[tuple[str, int, str], str]:
    """Why a contestant has no figure for a model and batch size."""
    reasons = {}
    for task in _tasks(arguments):
        for contestant in arguments.known:
            note = _note(task, contestant)
            failed = json.loads(note.read_text()).get("failed") if note.exists() else None
            if reason := contestant.absent(task) or failed:
                reasons[task.key, task.batch, contestant.name] = reason
    return reasons


def _results(keep: Path) -> list[dict[str, Any]]:
    file = keep / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _environment(task: Task) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OPTC_BENCH_BATCH": str(task.batch), "PYTHONPATH": path}


def _arguments() -> argparse.Namespace:
    """The command line, with ``zoo`` and ``known``: the models and contestants of the chosen comparison."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--int8", action="store_true", help="compare int8 models, calibrated on text")
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"of {', '.join(zoo.MODELS)}")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="as the table names them")
    parser.add_argument("--sessions", type=int, default=7, help="fresh processes of each contestant")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing per contestant and session")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "cpu", help="models and results")
    parser.add_argument("--build", action="store_true", help="only build")
    parser.add_argument("--table", action="store_true", help="only print what has been measured")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.zoo = int8.MODELS if arguments.int8 else zoo.MODELS
    arguments.known = int8.CONTESTANTS if arguments.int8 else peers.CONTESTANTS
    arguments.models = _known(parser, "model", arguments.models, list(arguments.zoo))
    names = [contestant.name for contestant in arguments.known]
    arguments.contestants = _known(parser, "contestant", arguments.contestants, names)
    return arguments


def _known(
    parser: argparse.ArgumentParser, what: str, given: list[str] | None, known: list[str]
) -> list[str]:
    for name in given or ():
        if name not in known:
            parser.error(f"there is no {what} {name!r}; known: {', '.join(known)}")
    return given or known


if __name__ == "__main__":
    if "--one" in sys.argv:
        _build_here(_arguments())
    else:
        main()
