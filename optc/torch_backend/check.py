"""Comparing the first answer of an executable with eager mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

# Relative L2 error by the narrowest float type in the graph: the type's rounding step, amplified by dozens of
# layers. What is wrong is wrong by far more.
TOLERANCE = {"float64": 1e-5, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
_SMALL_RMS = 1e-3  # below this, an output is what is left of values that cancelled, and the error is absolute
_DISCRETE = 0.01  # how many whole numbers may differ where they come from floats: ties break in either way


def disagreement(
    expected: Sequence[Any], actual: Sequence[Any], digits: str | None, allowed: float | None
) -> str | None:
    """Says how the values differ by more than rounding, or None.

    Args:
        expected: the results of eager mode.
        digits: the narrowest float type in the graph; None if there are no floats.
        allowed: where that is more than rounding explains: for a lossy pipeline.
    """
    for place, (left, right) in enumerate(zip(expected, actual, strict=True)):
        if isinstance(left, torch.Tensor) != isinstance(right, torch.Tensor):
            return f"result {place} is a {type(right).__name__} instead of a {type(left).__name__}"
        if not isinstance(left, torch.Tensor):
            if left != right and not (left != left and right != right):
                return f"result {place} is {right!r} instead of {left!r}"
        elif (text := _difference(left, right, digits, allowed)) is not None:
            return f"result {place} {text}"
    return None


def _difference(
    left: torch.Tensor, right: torch.Tensor, digits: str | None, allowed: float | None
) -> str | None:
    if left.dtype != right.dtype or left.shape != right.shape:
        return f"is {right.dtype} {tuple(right.shape)} instead of {left.dtype} {tuple(left.shape)}"
    if left.numel() == 0:
        return None
    if not left.dtype.is_floating_point:
        share = float((left != right).double().mean())
        limit = 0.0 if digits is None else _DISCRETE if allowed is None else 1.0
        return f"differs from eager mode in {share:.1%} of its values" if share > limit else None
    a, b = left.detach().double(), right.detach().double()
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()) or not torch.equal(
        a[~finite].nan_to_num(), b[~finite].nan_to_num()
    ):
        return "has NaN or infinity at other places than eager mode"
    a, b = a[finite], b[finite]
    scale = max(float(a.norm()), _SMALL_RMS * math.sqrt(a.numel()))
    error = float((a - b).norm()) / scale if a.numel() else 0.0
    own = TOLERANCE.get(str(left.dtype).removeprefix("torch."), 1e-1)
    limit = max(own, TOLERANCE.get(digits or "", 0.0), allowed or 0.0)
    return f"has a relative error of {error:.2g} against eager mode" if error > limit else None
