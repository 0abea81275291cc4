"""Outputs at padded tokens: they say nothing, so an error there costs nothing.

A model that is given sentences of several lengths in one batch also answers at the places where there is no
token. That these answers mean nothing is not taken from names: an input is a mask of padding where the
attention reads it beside the stream of hidden states, and other tokens under it change nothing but the
answers at their own places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.blocks import find_blocks
from optc.analysis.padding import mask_inputs
from optc.passbase import Feeds
from optc.session import ORT_ERRORS, open_session, run_session

_LOOKED_AT = 64  # samples, for one with padding
_SAME = 1e-4  # relative, of an answer that did not change


@dataclass(frozen=True)
class Padding:
    """Which answers of a model are at padded tokens.

    Attributes:
        masks: by output, whose first axes are batch and token, the input [batch, tokens] that is 1 at real
            tokens and 0 at padding.
    """

    masks: Mapping[str, str]

    def without(self, feeds: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of one run; those with padding as [real tokens, ...]."""
        return {name: self._real(name, feeds, value) for name, value in values.items()}

    def _real(self, name: str, feeds: Mapping[str, Any], value: Any) -> Any:
        mask = _mask(self.masks.get(name, ""), feeds)
        if mask is None or not isinstance(value, np.ndarray) or value.shape[:2] != mask.shape:
            return value
        return value[mask]

    def __str__(self) -> str:
        pairs = [f"{output!r} where {mask!r} marks padding" for output, mask in sorted(self.masks.items())]
        return ", ".join(pairs)


def find(model: ir.Model, samples: Sequence[Feeds]) -> Padding | None:
    """What the samples show about padding; None where there is none, or nothing is known of it.

    Args:
        model: as captured; one sample per possible mask runs twice.
    """
    masks: dict[str, str] = {}
    for name in _candidates(model):
        feeds = next((f for f in samples[:_LOOKED_AT] if _mask(name, f) is not None), None)
        if feeds is not None:
            for output in _blind(model, name, feeds):
                masks.setdefault(output, name)
    return Padding(masks) if masks else None


def _candidates(model: ir.Model) -> list[str]:
    blocks = find_blocks(model).blocks
    entries = {str(block.entry.name) for block in blocks}
    attending = [node for block in blocks if block.kind == "transformer" for node in block.nodes]
    return mask_inputs(attending, entries)


def _mask(name: str, feeds: Mapping[str, Any]) -> np.ndarray | None:
    """The mask as bool [batch, tokens], if it is one that hides some tokens, and not all."""
    value = feeds.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not np.isin(value, (0, 1)).all():
        return None
    return value.astype(bool) if value.any() and not value.all() else None


def _blind(model: ir.Model, name: str, feeds: Feeds) -> list[str]:
    """The outputs that change at the masked places, and nowhere else, when other tokens are put there."""
    mask, changed = _mask(name, feeds), dict(feeds)
    assert mask is not None
    for other, value in feeds.items():
        if other != name and isinstance(value, np.ndarray) and value.shape[:2] == mask.shape:
            changed[other] = np.where(_like(mask, value), value, value[:, :1])
    session = open_session(model, optimize=False)
    try:
        before, after = run_session(session, feeds), run_session(session, changed)
    except ORT_ERRORS:
        return []  # whatever is wrong with the sample is said where the model is run on all of them
    return [output for output in before if _only_there(mask, before[output], after[output])]


def _only_there(mask: np.ndarray, before: Any, after: Any) -> bool:
    if not isinstance(before, np.ndarray) or before.dtype.kind != "f" or before.shape[:2] != mask.shape:
        return False
    scale = float(np.abs(before).max(initial=0.0))
    moved = np.abs(after - before) > _SAME * scale
    return bool(moved[~mask].any()) and not moved[mask].any()


def _like(mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    return mask.reshape(*mask.shape, *([1] * (value.ndim - 2)))
