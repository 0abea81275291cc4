"""What is added to attention scores, or put in their place, as the one mask input of fused attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from optc.newnode import Operand
from optc.rewrite import NearMiss

from . import _new

# A finite fill stands for "no attention" when exp(fill - score) is 0 for any sensible score.
_LEAST_FILL = -1e4
# Below this, adding a bias to the fill changes nothing: the fill absorbs it.
ABSORBING_FILL = -1e30


@dataclass(frozen=True)
class Added:
    """``term`` was added to the scores."""

    term: Operand


@dataclass(frozen=True)
class Scaled:
    """The scores were multiplied by ``factor``."""

    factor: float


@dataclass(frozen=True)
class Filled:
    """The scores were set to ``fill`` except where ``condition`` has the truth value ``keeps``.

    ``origin`` is the condition before it was brought into the layout of the scores.
    """

    condition: Operand
    origin: ir.Value
    keeps: bool
    fill: float


@dataclass(frozen=True)
class Floored:
    """Scores below ``floor`` were raised to it."""

    floor: float


Event: TypeAlias = Added | Scaled | Filled | Floored


@dataclass(frozen=True)
class _Mask:
    """``keep`` (True: attend, else -inf), or ``bias`` to be added, or neither.

    ``fill`` is the finite number that was written over masked scores.
    """

    kind: ir.DataType
    keep: Operand | None = None
    bias: Operand | None = None
    fill: float | None = None


def combine(events: Iterable[Event], kind: ir.DataType) -> Operand | None:
    """The mask input that has the effect of ``events`` on scores of element type ``kind``."""
    mask = _Mask(kind)
    for event in events:
        match event:
            case Added():
                mask = _add(mask, event.term)
            case Scaled():
                mask = _scale(mask, event.factor)
            case Filled():
                mask = _fill(mask, event)
            case Floored():
                mask = _floor(mask, event.floor)
    return mask.bias if mask.keep is None else mask.keep


def _add(mask: _Mask, term: Operand) -> _Mask:
    if mask.fill is not None and mask.fill > ABSORBING_FILL:
        raise NearMiss(f"a bias is added after masked scores were set to {mask.fill:g}")
    if mask.keep is not None:
        return replace(mask, keep=None, bias=_new.where(mask.keep, term, _new.number(-np.inf, mask.kind)))
    return replace(mask, bias=term if mask.bias is None else _new.add(mask.bias, term))


def _scale(mask: _Mask, factor: float) -> _Mask:
    if mask.fill is not None or (mask.keep is not None and factor <= 0):
        raise NearMiss("scores are scaled after they were masked")
    if mask.bias is None:
        return mask
    return replace(mask, bias=_new.multiply(mask.bias, _new.number(factor, mask.kind)))


def _fill(mask: _Mask, event: Filled) -> _Mask:
    """A finite fill becomes a number to be added: itself, or the lowest one where scores survive next to it.

    Where a row keeps any position, both give masked ones exactly 0; a row that keeps none is uniform in both,
    because no score survives next to that number. With two fills only the higher one counts there.
    """
    if event.fill == -np.inf and mask.bias is None:
        keep = event.condition if event.keeps else _new.invert(event.condition)
        return replace(mask, keep=keep if mask.keep is None else _new.both(mask.keep, keep))
    if event.fill > _LEAST_FILL:
        raise NearMiss(f"masked scores are set to {event.fill:g}, not low enough to mean no attention")
    if event.fill != -np.inf and mask.kind == ir.DataType.FLOAT16:
        raise NearMiss("masked scores are set to a finite number in float16, where a sum may overflow")
    if mask.fill is not None and event.fill not in (mask.fill, -np.inf):
        raise NearMiss(f"masked scores are set to {mask.fill:g}, and then others to {event.fill:g}")
    zero = _new.number(0.0, mask.kind)
    bias = mask.bias if mask.bias is not None else zero
    if mask.keep is not None:
        bias = _new.where(mask.keep, zero, _new.number(-np.inf, mask.kind))
    if event.fill == -np.inf:
        return replace(mask, keep=None, bias=_either(event, bias, _new.number(-np.inf, mask.kind)))
    low = event.fill if event.fill <= ABSORBING_FILL else float(mask.kind.min)
    return replace(mask, keep=None, bias=_either(event, bias, _new.number(low, mask.kind)), fill=event.fill)


def _floor(mask: _Mask, floor: float) -> _Mask:
    """No score by itself is that low: only what masks hold is raised. A row that keeps nothing is uniform."""
    if floor > ABSORBING_FILL:
        raise NearMiss(f"scores are raised to {floor:g}")
    if mask.kind == ir.DataType.FLOAT16:
        raise NearMiss("scores are raised to a finite number in float16, where a sum may overflow")
    if mask.fill is not None and mask.fill > floor:
        raise NearMiss(f"masked scores are set to {mask.fill:g}, and others raised to {floor:g}")
    lowest = _new.number(floor, mask.kind)
    if mask.keep is not None:
        return replace(
            mask, keep=None, bias=_new.where(mask.keep, _new.number(0.0, mask.kind), lowest), fill=floor
        )
    if mask.bias is None:
        return mask
    return replace(mask, bias=_new.maximum(mask.bias, lowest), fill=floor)


def _either(event: Filled, kept: Operand, low: Operand) -> Operand:
    return _new.where(event.condition, *((kept, low) if event.keeps else (low, kept)))
