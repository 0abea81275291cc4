"""What watches the passes from outside: verify, dump, sizes and compare. Passes know nothing of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import listing, oracle, verify
from optc.passbase import Feeds
from optc.pipeline import Record
from optc.report import weight_bytes


class Verify:
    """Checks the invariants at every pass boundary; a broken one is an internal error."""

    def start(self, model: ir.Model) -> None:
        """Remembers the interface, which no pass may change."""
        self._interface = verify.interface_of(model)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Raises VerifyError when the pass broke the IR."""
        verify.verify(model, interface=self._interface, after=record.step.name)
        return None


class Dump:
    """Writes a listing of the model after every pass, ``00-captured.txt``, ``01-simplify.txt`` and so on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, model: ir.Model) -> None:
        """Writes the captured model."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._write(0, "captured", model)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Writes the model as the pass left it."""
        self._write(index + 1, record.step.name, model)
        return None

    def _write(self, number: int, name: str, model: ir.Model) -> None:
        path = self._directory / f"{number:02d}-{name}.txt"
        path.write_text(listing.listing(model), encoding="utf-8")


class Sizes:
    """Notes the bytes of weights before and after every pass."""

    def start(self, model: ir.Model) -> None:
        """Counts the captured model's."""
        self._last = weight_bytes(model)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Notes both numbers; put it last, so that it sees what was undone."""
        now = self._last if record.undone else weight_bytes(model)
        record.findings["bytes_before"], record.findings["bytes_after"] = self._last, now
        self._last = now
        return None


class Compare:
    """Runs the captured model and the model after each pass on the samples.

    An exact pass that leaves float tolerance is undone: a result that moved is a defect, whatever it gains.
    Behind a lossy pass that cannot be asked: a value that moves by a rounding error may be quantized to the
    next code, and layer after layer that grows to the size of the loss itself. There an exact pass may not
    make the error larger.
    """

    _NOISE = 1.25  # times the error of the lossy passes: what differently rounded codes may make of it

    def __init__(self, samples: Sequence[Feeds], max_error: float | None = None) -> None:
        self._samples, self._max_error = samples, max_error
        self.oracle: oracle.Oracle | None = None
        self._lost = 0.0  # the relative error after the last lossy pass

    def start(self, model: ir.Model) -> None:
        """Runs the captured model once and keeps its outputs."""
        self.oracle = oracle.Oracle(model, self._samples)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Notes the error in the record; a reason to undo when it is not allowed."""
        if not record.report.changed:
            return None
        found = self.judge(model, exact=record.step.exact)
        record.findings["error"] = found[0]
        if not record.step.exact and found[1] is None:
            self._lost = float(found[0].get("rel_l2", 0.0))
        return found[1]

    def judge(self, model: ir.Model, *, exact: bool) -> tuple[dict[str, Any], str | None]:
        """The error of ``model`` against the captured one, and a reason to undo what caused it."""
        assert self.oracle is not None
        result = self.oracle.compare(model)
        if isinstance(result, oracle.Skipped):
            return {"skipped": result.reason}, None
        error = dataclasses.asdict(result)
        if exact and not result.exact and not result.rel_l2 <= self._NOISE * self._lost:
            return error, f"it changed the results: {_describe(result)}"
        if not exact and self._max_error is not None and result.rel_l2 > self._max_error:
            return error, f"its error {result.rel_l2:.3g} is above the allowed {self._max_error:.3g}"
        return error, None


def _describe(found: oracle.Difference) -> str:
    if found.reason:
        return found.reason
    return f"relative error {found.rel_l2:.2g} at output {found.output!r}"
