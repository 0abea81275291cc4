"""What happens to attention scores between the product and the softmax, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import NearMiss

from . import _frame, _grid, _mask, _new, _sink
from ._scale import known_number
from ._scores import Step, Way

_VIEWS = ("Reshape", "Squeeze", "Unsqueeze")


@dataclass
class Reading:
    """The effect of the steps on scores of element type ``kind`` and leading axes ``frame``, so far.

    ``scales`` are numbers by the place where they are multiplied (``scores``, or ``inner`` after a cast),
    ``row_factor`` is what scores were multiplied by that does not depend on the key. ``mask_kind`` is the
    element type in which masks were applied. ``cap`` is c where the scores, with ``scales`` applied, became
    c * tanh of them. ``sink`` joined them as one more column. ``grid`` is there while the scores are seen as
    one.
    """

    kind: ir.DataType
    frame: list[_frame.Dim]
    axes: Sequence[_frame.Dim]
    q: Operand
    cast: bool = False
    scales: list[tuple[str, float]] = field(default_factory=list)
    row_factor: Operand | None = None
    events: list[_mask.Event] = field(default_factory=list)
    mask_kind: ir.DataType | None = None
    cap: float | None = None
    grid: _grid.Grid | None = None
    sink: _sink.Sink | None = None


def frames(way: Way) -> list[list[_frame.Dim]]:
    """The leading axes of the scores after each step that changes them."""
    views = [step.node for step in way.steps if step.node.op_type in _VIEWS]
    return [_frame.leading(view.outputs[0], "scores") for view in views if _grid.entered(view) is None]


def read(way: Way, q: Operand, axes: Sequence[_frame.Dim]) -> Reading:
    """Reads the steps of ``way`` for queries ``q`` whose leading axes are ``axes``."""
    scores = way.product.outputs[0]
    if scores.dtype is None:
        raise NearMiss("the element type of the scores is not known")
    reading = Reading(scores.dtype, _frame.leading(scores, "scores"), axes, q)
    for step in way.steps:
        _step(reading, step)
    return reading


def _step(reading: Reading, step: Step) -> None:
    if reading.grid is not None:
        _in_grid(reading, reading.grid, step)
        return
    if reading.sink is not None and step.node.op_type not in ("Identity", "Cast"):
        raise NearMiss(f"the scores go through {step.node.op_type} with a sink among them")
    match step.node.op_type:
        case "Identity":
            return
        case "Dropout":
            if not inactive(step.node):
                raise NearMiss("a dropout on the scores may be active")
        case "Cast":
            _cast(reading, step)
        case "Reshape" | "Squeeze" | "Unsqueeze":
            if (grid := _grid.entered(step.node)) is not None:
                reading.grid = grid
                return
            if not _frame.regroups(step.node):
                raise NearMiss("the scores are reshaped before the softmax")
            reading.frame = _frame.leading(step.node.outputs[0], "scores")
        case "Mul" | "Div":
            _multiply(reading, step)
        case "Add" | "Sub":
            _add(reading, step)
        case "Where":
            _fill(reading, step)
        case "Max" | "Clip":
            _floor(reading, step)
        case "Concat":
            _join(reading, step)
        case "Tanh":
            if reading.events or reading.cast or reading.cap is not None:
                raise NearMiss("scores are capped after they were masked or cast")
            reading.cap = 1.0
        case other:
            raise NearMiss(f"the scores go through {other} before the softmax")


def inactive(dropout: ir.Node) -> bool:
    """Whether a ``Dropout`` is known to do nothing."""
    if len(dropout.inputs) < 3 or dropout.inputs[2] is None:
        return True
    training = match.constant(dropout.inputs[2])
    return training is not None and not bool(training)


def _cast(reading: Reading, step: Step) -> None:
    after = step.node.outputs[0].dtype
    if after == reading.kind:
        return
    if after != ir.DataType.FLOAT or reading.cast:
        raise NearMiss(f"the scores are cast to {after}")
    reading.kind, reading.cast = after, True
    if reading.sink is not None:
        reading.sink = _sink.cast(reading.sink, after)


def _join(reading: Reading, step: Step) -> None:
    sink = _sink.joined(step.node, step.index, reading.kind)
    logits = _frame.term(sink.logits, reading.frame, reading.axes, reading.q)
    reading.sink = replace(sink, logits=logits)


def _multiply(reading: Reading, step: Step) -> None:
    number = known_number(step.other)
    if number is None:
        _row_factor(reading, step)
        return
    if step.node.op_type == "Div":
        if number == 0:
            raise NearMiss("the scores are divided by 0")
        number = 1 / number
    if reading.cap is not None and not reading.events:
        reading.cap *= number
        return
    reading.scales.append(("inner" if reading.cast else "scores", number))
    if reading.events:
        reading.events.append(_mask.Scaled(number))


def _row_factor(reading: Reading, step: Step) -> None:
    """A constant factor that differs by head is as well a factor of the queries."""
    other = step.other
    size = match.dim(other, -1)
    if step.node.op_type != "Mul" or other is None or not match.is_constant(other) or size != 1:
        raise NearMiss("scale is not a constant")
    if reading.events or reading.cast or reading.row_factor is not None or reading.cap is not None:
        raise NearMiss("scores are scaled by head after they were masked or cast")
    reading.row_factor = _frame.term(other, reading.frame, reading.axes, reading.q)


def _term(reading: Reading, value: Operand | None) -> Operand:
    if value is None or value.shape is None:
        raise NearMiss("the rank of a mask is not known")
    if reading.mask_kind not in (None, reading.kind):
        raise NearMiss("masks are applied in two element types")
    reading.mask_kind = reading.kind
    return _frame.term(value, reading.frame, reading.axes, reading.q)


def _add(reading: Reading, step: Step) -> None:
    added = _term(reading, step.other)
    reading.events.append(_mask.Added(_new.negate(added) if step.node.op_type == "Sub" else added))


def _in_grid(reading: Reading, grid: _grid.Grid, step: Step) -> None:
    if step.node.op_type == "Add":
        grid.add(step.other)
        return
    if step.node.op_type != "Reshape":
        raise NearMiss("the scores are reshaped before the softmax")
    bias = grid.flattened(step.node.outputs[0])
    reading.grid = None
    if bias is not None:
        reading.events.append(_mask.Added(_term(reading, bias)))


def _fill(reading: Reading, step: Step) -> None:
    condition, fill = step.node.inputs[0], known_number(step.node.inputs[3 - step.index])
    assert condition is not None
    if fill is None:
        raise NearMiss("masked scores are set to something that is not a constant")
    keeps = step.index == 1
    reading.events.append(_mask.Filled(_term(reading, condition), condition, keeps, fill))


def _floor(reading: Reading, step: Step) -> None:
    """The lowest finite number as a bound, by which people keep rows of masks from being -inf throughout."""
    inputs = step.node.inputs
    bound = step.other if step.node.op_type == "Max" else (inputs[1] if len(inputs) > 1 else None)
    floor = known_number(bound)
    if floor is None or (step.node.op_type == "Clip" and len(inputs) > 2 and inputs[2] is not None):
        raise NearMiss(f"the scores go through {step.node.op_type} before the softmax")
    reading.events.append(_mask.Floored(floor))
