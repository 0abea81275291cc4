"""`nn.TransformerEncoder` and `nn.TransformerDecoder` under torch.export, with any mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules import transformer

_look = transformer._detect_is_causal_mask


@contextmanager
def unasked() -> Iterator[None]:
    """Within it, these layers do not look into a mask for whether it is causal.

    The answer only chooses a faster kernel for the same mask; a trace cannot give it.
    """
    transformer._detect_is_causal_mask = _as_told
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = _look


def _as_told(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    return is_causal is True
