"""What the gate measures: models made ready once, and opened any number of times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import onnx_ir as ir

from optc.passbase import Feeds
from optc.session import run_session
from optc.weightfile import WeightFile

Program = Callable[[Feeds], Any]


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be opened.

    Attributes:
        open: gives a fresh session.
        fingerprint: equal for two models that are the same program.
    """

    open: Callable[[], Program]
    fingerprint: object


Prepare = Callable[[ir.Model], Prepared]


class OrtPrograms:
    """Prepares models for ONNX Runtime on the CPU; their weights are written once and mapped.

    The threads of a session stop spinning at the end of each call and leave the cores to the next
    contestant; `optc.measure` says what happens otherwise.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads

    @cached_property
    def _weights(self) -> WeightFile:
        return WeightFile()

    def __call__(self, model: ir.Model) -> Prepared:
        """Writes the weights that are not in the file yet."""
        content = self._weights.detach(model)
        return Prepared(partial(self._open, content), hashlib.sha256(content).hexdigest())

    def _open(self, content: bytes) -> Program:
        options = {"session.force_spinning_stop": "1"}
        return partial(run_session, self._weights.open(content, threads=self._threads, options=options))
