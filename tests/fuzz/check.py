"""Runs a case: captures it, runs its pipeline and legalize, compares every state with what it came from.

Every rewrite of the exact passes is validated on its own as well: one that complains of a right rewrite is a
finding too.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import observers, registry, verify
from optc.capture import capture
from optc.difference import difference
from optc.errors import OptcError, WrongRewrite
from optc.passbase import Context
from optc.pipeline import Pipeline
from optc.session import open_session, run_session
from optc.trail import Trail
from optc.validate import Validator

from . import noise
from .case import Case, Feeds
from .usable import Invalid as Invalid
from .usable import usable

Outputs = Mapping[str, Any]

# Rewrites that sum in another order: equal for finite numbers, but infinity times zero may come or go, and
# with it what a bounded function makes of infinity.
_REGROUPING = frozenset({"two linear maps merged", "batch norm folded"})

# ONNX Runtime's Where makes 0 of -0: who divides by what a decided Where hands on gets the other infinity.
_LOSES_SIGN_OF_ZERO = "where that is decided"

# What a mask hides is added to a large negative number in some of the fused forms, and NaN stays NaN.
_NOT_FOR_NAN = "attention"
_ABOUT_NAN = "NaN or infinity at other places"

# It takes -10000 for a number that hides a score, which one of -1e29 beside it would not be.
_BELOW_MASKS = "attention"


@dataclass(frozen=True)
class Finding:
    """What is wrong: after which pass, and a line that says what."""

    kind: str  # "wrong answer", "wrong rewrite", "crash", "refused"
    stage: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} after {self.stage}: {self.what}"


@dataclass(frozen=True)
class State:
    """The model after a step, and what the step may do to its results."""

    stage: str
    model: ir.Model
    exact: bool = True
    regrouped: bool = False  # infinities and NaN may take each other's place
    signless: bool = False  # an infinity may take the place of the other
    finite: bool = False  # it promises nothing for feeds that hold NaN or infinities
    removed: bool = False  # parts are gone: only types and shapes stay


def check(case: Case) -> Finding | None:
    """The first thing that goes wrong, or None.

    Raises:
        Invalid: the model does not run on any of its feeds.
    """
    feeds = usable(case)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            captured = capture(case.model, inputs=feeds[0]).model
        except OptcError as error:
            return Finding("refused", "capture", str(error))
        plain = captured.clone()
        stage = "capture"
        try:
            expected = _run(plain, feeds)
            for state in states(case, captured, feeds):
                stage = state.stage
                found = _run(state.model, feeds)
                if wrong := _compared(state, plain, feeds, expected, found):
                    return Finding("wrong answer", stage, wrong)
                if not state.exact:  # what follows keeps what this pass made of the model
                    plain, expected = state.model.clone(), found
        except WrongRewrite as error:
            excused = _ABOUT_NAN in error.what or error.rewrite.name == _BELOW_MASKS
            if excused and (_overflow(feeds) or not _moderate_constants(plain)):
                return None  # fused forms promise as little for such constants as for such feeds
            return Finding("wrong rewrite", error.step, f"{error.rewrite.name}: {error.what}")
        except Exception as error:  # whatever a pass raises is what is looked for here
            line = str(error).strip().split("\n")[0]
            return Finding("crash", f"{stage} (in what comes next)", f"{type(error).__name__}: {line}")
    return None


def states(case: Case, model: ir.Model, feeds: list[Feeds]) -> Iterator[State]:
    """The model after every pass, and legalized; the verifier looks at each."""
    ctx = Context(
        target=registry.find_target("cpu"),
        examples=feeds,
        calibration=feeds,
        lowerings=case.lowerings,
        threads=1,
        trail=Trail(watchers=(Validator(feeds, threads=1),)),
    )
    watcher = observers.Verify()
    watcher.start(model)
    regrouped = signless = finite = False
    steps = Pipeline.parse(case.pipeline).walk(model, ctx)
    for number, (record, model) in enumerate(steps):
        watcher.after(number, record, model)
        regrouped |= not _REGROUPING.isdisjoint(record.report.matched)
        signless |= _LOSES_SIGN_OF_ZERO in record.report.matched
        finite |= _NOT_FOR_NAN in record.report.matched
        step, exact = record.step.name, record.step.exact or not record.report.changed
        removed = step == "skip-layers"
        yield State(f"{step} (pass {number + 1})", model, exact, regrouped, signless, finite, removed)
    model, _ = Pipeline((registry.find_pass("legalize")(),)).run(model, ctx, [watcher])
    verify.verify(model, target=ctx.target, after="legalize")
    yield State("legalize", model, regrouped=regrouped, signless=signless, finite=finite)


def _run(model: ir.Model, feeds: list[Feeds]) -> list[Outputs]:
    session = open_session(model, optimize=False, threads=1)
    return [run_session(session, each) for each in feeds]


def _compared(
    state: State, plain: ir.Model, feeds: list[Feeds], expected: list[Outputs], found: list[Outputs]
) -> str | None:
    for each, wanted, given in zip(feeds, expected, found, strict=True):
        if state.finite and not all(_is_finite(array) for array in each.values()):
            continue
        if state.regrouped or state.signless:
            wanted, given = _without_infinities(wanted), _without_infinities(given)
        if state.regrouped and not all(_is_moderate(array) for array in each.values()):
            if _makes_codes(plain):
                continue  # of NaN they are any number, which is finite from then on
            wanted, given = _known_in(given, wanted), _known_in(wanted, given)
        result = difference(wanted, given)
        if result.exact or (state.removed and _same_types(wanted, given)):
            continue
        moved = noise.LAST_BITS if state.exact else noise.COARSE
        if noise.explains(plain, each, wanted, result, moved, feeds):
            continue
        return result.reason or f"relative error {result.rel_l2:.2g} at {result.output}"
    return None


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _moderate_constants(model: ir.Model) -> bool:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    tensors += [ir.convenience.get_const_tensor(node.outputs[0]) for node in model.graph if not node.inputs]
    return all(_is_moderate(tensor.numpy()) for tensor in tensors if tensor is not None)


def _makes_codes(model: ir.Model) -> bool:
    """Whether floats become codes, integers or truth values."""
    nodes = (node for node in model.graph.all_nodes() if node.op_type not in ("Shape", "Size"))
    return any(
        any(_is_float(value) for value in node.inputs) and not all(_is_float(value) for value in node.outputs)
        for node in nodes
    )


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def _overflow(feeds: list[Feeds]) -> bool:
    """Whether numbers are so large that sums of their products may be infinite."""
    arrays = [array for each in feeds for array in each.values() if array.dtype.kind == "f"]
    return not all(_is_moderate(array[np.isfinite(array)]) for array in arrays)


def _is_moderate(array: np.ndarray) -> bool:
    """Whether sums of a few products of two elements are finite, whatever the order."""
    return array.dtype.kind != "f" or bool((np.abs(array) < np.sqrt(np.finfo(array.dtype).max) / 4).all())


def _without_infinities(outputs: Outputs) -> Outputs:
    return {name: _no_infinity(value) for name, value in outputs.items()}


def _no_infinity(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return np.where(np.isinf(value), value.dtype.type(np.nan), value)


def _known_in(other: Outputs, outputs: Outputs) -> Outputs:
    """The outputs with NaN where ``other`` has it: a bounded function makes a number of an infinity.

    Codes and truth values do not tell what they were made of, so they are left out.
    """
    return {name: _hidden(value, other.get(name)) for name, value in outputs.items()}


def _hidden(value: Any, other: Any) -> Any:
    if not isinstance(value, np.ndarray) or np.shape(other) != value.shape:
        return value
    if value.dtype.kind != "f":
        return np.zeros_like(value)
    return np.where(np.isnan(other), value.dtype.type(np.nan), value)


def _same_types(wanted: Outputs, given: Outputs) -> bool:
    return {n: (a.dtype, a.shape) for n, a in wanted.items()} == {
        n: (a.dtype, a.shape) for n, a in given.items()
    }
