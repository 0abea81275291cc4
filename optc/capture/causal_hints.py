"""`nn.TransformerEncoder` and `nn.TransformerDecoder` under torch.export, with any mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules import transformer

_NAME = "_detect_is_causal_mask"  # private to torch: a version without it has nothing to be kept from
_look = getattr(transformer, _NAME, None)


@contextmanager
def unasked() -> Iterator[None]:
    """Within it, these layers do not look into a mask for whether it is causal.

    The answer only chooses a faster kernel for the same mask; a trace cannot give it.
    """
    if _look is None:
        yield
        return
    setattr(transformer, _NAME, _as_told)
    try:
        yield
    finally:
        setattr(transformer, _NAME, _look)


def _as_told(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    return is_causal is True
