"""What watches the passes from outside: verify, dump, sizes and compare. Passes know nothing of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import listing, oracle, padded, verify
from optc.allowance import Allowance
from optc.errors import UserError
from optc.metric import metric_of
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
        self._write(0, "captured", model)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Writes the model as the pass left it."""
        self._write(index + 1, record.step.name, model)
        return None

    def _write(self, number: int, name: str, model: ir.Model) -> None:
        text = listing.listing(model)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / f"{number:02d}-{name}.txt").write_text(text, encoding="utf-8")
        except OSError as error:
            hint = "name a directory with room that exists or can be made, with --dump"
            what = f"the listings cannot be written there: {error.strerror}"
            raise UserError(what, where=str(self._directory), hint=hint) from error


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
    make the error larger. A lossy pass is undone when its error is more than ``allowance`` allows. What the
    model answers at padded tokens means nothing and is no part of the error of lossy passes.

    Args:
        unseen: indices of the samples that were kept from calibration; their error is taken apart as well.
    """

    _NOISE = 1.25  # times the error of the lossy passes: what differently rounded codes may make of it

    def __init__(
        self,
        samples: Sequence[Feeds],
        allowance: Allowance | None = None,
        unseen: Collection[int] = (),
    ) -> None:
        self._samples, self._allowance, self._unseen = samples, allowance or Allowance(), unseen
        self.oracle: oracle.Oracle | None = None
        self._lossy: list[Record] = []

    def start(self, model: ir.Model) -> None:
        """Runs the captured model once and keeps its outputs."""
        self.oracle = oracle.Oracle(model, self._samples)
        self._captured = model.clone()

    @cached_property
    def padding(self) -> padded.Padding | None:
        """Where the answers of the captured model mean nothing."""
        return padded.find(self._captured, self._samples)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Notes the error in the record; a reason to undo when it is not allowed."""
        if not record.report.changed:
            return None
        if not record.step.exact:
            self._lossy.append(record)
        error, reason = self.judge(model, exact=record.step.exact)
        record.findings["error"] = error
        if reason is not None and record.step.chooses and record.max_error is not None:
            record.again = self._allowance.less(record.max_error, error)
        return reason

    def judge(self, model: ir.Model, *, exact: bool) -> tuple[dict[str, Any], str | None]:
        """The error of ``model`` against the captured one, and a reason to undo what caused it."""
        assert self.oracle is not None
        padding = self.padding if any(record.undone is None for record in self._lossy) else None
        found = self.oracle.judge(model, () if exact else self._unseen, padding)
        if isinstance(found, oracle.Skipped):
            return {"skipped": found.reason}, None if exact else self._allowance.unjudged(found.reason)
        result, unseen = found
        error = dataclasses.asdict(result)
        if padding is not None:
            error["left_out"] = str(padding)
        if unseen is not None:
            error["unseen"] = dataclasses.asdict(unseen)
        if not exact:
            return error, self._allowance.exceeded(result, unseen)
        if not result.exact and not result.rel_l2 <= self._NOISE * self._lost():
            return error, f"it changed the results: {_describe(result)}"
        return error, None

    def _lost(self) -> float:
        """The relative error after the last lossy pass that was not undone."""
        for record in reversed(self._lossy):
            if record.undone is None and isinstance(error := record.findings.get("error"), dict):
                return float(error.get("rel_l2", 0.0))
        return 0.0


class Metric:
    """Takes the user's metric after each lossy pass, and undoes what lets it drop too far.

    Args:
        metric: ``metric(run) -> float``, higher is better.
        max_drop: how much worse (absolute) than that of the captured model it may be.
    """

    def __init__(self, metric: Callable[..., float], max_drop: float, threads: int | None = None) -> None:
        self._metric, self._max_drop, self._threads = metric, max_drop, threads

    def start(self, model: ir.Model) -> None:
        """Takes the metric of the captured model."""
        self.before = self.of(model)

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Notes the metric in the record; a reason to undo when it dropped too far."""
        if record.step.exact or not record.report.changed:
            return None
        record.findings["metric"] = value = self.of(model)
        return self.exceeded(value)

    def of(self, model: ir.Model) -> float:
        """The metric of a model as the runtime runs it; UserError when it fails or is no number."""
        return metric_of(self._metric, model, self._threads)

    def exceeded(self, value: float) -> str | None:
        """Why this value is not allowed; not a number never is."""
        if self.before - value <= self._max_drop:
            return None
        return f"the metric drops from {self.before:.6g} to {value:.6g}, more than {self._max_drop:.6g}"


def _describe(found: oracle.Difference) -> str:
    if found.reason:
        return found.reason
    return f"relative error {found.rel_l2:.2g} at output {found.output!r}"
