"""Numbers for inputs and weights: mostly tame, now and then NaN, infinities, signed zeros, extremes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e30)


def array(rng: random.Random, shape: Sequence[int], dtype: Any, *, special: float = 0.0) -> np.ndarray:
    """Random numbers of few digits, so that a saved case reads well; ``special`` is a probability."""
    dtype = np.dtype(dtype)
    generator = np.random.default_rng(rng.getrandbits(32))
    if dtype.kind == "b":
        return generator.random(shape) < 0.6
    if dtype.kind == "u":
        return generator.integers(0, 6, shape).astype(dtype)
    if dtype.kind == "i":
        return generator.integers(-3, 4, shape).astype(dtype)
    found = np.round(generator.normal(size=shape) * 16) / 16
    if rng.random() < special:
        flat = found.reshape(-1)
        for _ in range(rng.randint(1, 3)):
            if flat.size:
                flat[rng.randrange(flat.size)] = rng.choice(SPECIAL)
    with np.errstate(over="ignore"):
        return np.asarray(found.astype(dtype))


def shape(rng: random.Random, rank: int | None = None) -> tuple[int, ...]:
    """Of small rank; an empty dim now and then."""
    rank = rng.choice((0, 1, 1, 2, 2, 3, 3, 4)) if rank is None else rank
    return tuple(0 if rng.random() < 0.02 else rng.choice((1, 1, 2, 3, 4, 4, 6)) for _ in range(rank))
