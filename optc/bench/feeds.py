"""The inputs that all contestants are given: the user's, a factory's example, or random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from optc import data
from optc.bench.contestant import Contestant
from optc.bench.process import Process
from optc.errors import UserError

_GIVE = "write an .npz file with one array per input name, and give it with --inputs"


def write_inputs(
    contestants: Sequence[Contestant], inputs: Path | None, dims: Mapping[str, int], seed: int, file: Path
) -> str:
    """Writes the inputs to ``file``, and returns where they come from.

    Raises:
        UserError: there are none, or they do not fit into such a file.
    """
    if inputs is not None:
        if dims:
            raise UserError("--inputs and --dim do not go together", hint="the arrays have their sizes")
        _write(data.load_feeds(inputs), file)
        return str(inputs)
    torch = next((c for c in contestants if c.kind == "torch"), None)
    if torch is None:
        return _random(contestants[0], dims, seed, file)
    if dims:
        what = "the example inputs of a factory have their sizes, so --dim has no effect"
        raise UserError(what, where=torch.name, hint=_GIVE)
    arguments = {"source": torch.source, "inputs": str(file)}
    with closing(Process(torch.name, "optc.bench.programs:example_program", arguments)) as process:
        process.open()
    return f"the example of {torch.name}"


def _random(contestant: Contestant, dims: Mapping[str, int], seed: int, file: Path) -> str:
    from optc.capture.samples import random_feeds
    from optc.driver import open_model

    (feeds,), note = random_feeds(open_model(contestant.source), seed, dims)
    _write(feeds, file)
    return note


def _write(feeds: Mapping[str, Any], file: Path) -> None:
    for name, value in feeds.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind in "OVmM":
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            what = f"an input of type {kind} cannot be handed to other processes"
            raise UserError(what, where=f"input {name}", hint="bench takes arrays of numbers and booleans")
    np.savez(file, **feeds)
