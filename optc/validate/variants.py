"""Inputs besides the examples: other numbers, numbers that show what rounding hides, other sizes.

They go in at the inputs of the whole model, so that every value inside is one that the model can have; values
made up for the inside may contradict each other, and then a right rewrite looks wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.capture.samples import random_feeds
from optc.passbase import Feeds

_EXAMPLES = 2
_SIZES = (3, 5, 7, 2)
_SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0)


@dataclass(frozen=True)
class Sample:
    """Feeds, and what to call them."""

    name: str
    feeds: Feeds

    @property
    def special(self) -> bool:
        """Whether they hold NaN or infinities."""
        arrays = (value for value in self.feeds.values() if isinstance(value, np.ndarray))
        return any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays)


def samples(model: ir.Model, examples: Sequence[Feeds], seed: int) -> Iterator[Sample]:
    """The first examples and what is made of the first of them; the model may not run on all."""
    for number, feeds in enumerate(examples[:_EXAMPLES], 1):
        yield Sample(f"example {number}" if number > 1 else "the example inputs", feeds)
    if not examples:
        return
    rng = np.random.default_rng(seed)
    yield Sample("other numbers", {name: _other(value, rng) for name, value in examples[0].items()})
    hidden = {name: _hidden(value) for name, value in examples[0].items()}
    yield Sample("masks that hide everything", hidden)
    yield Sample("NaN and infinities", {name: _special(value) for name, value in examples[0].items()})
    if sizes := _other_sizes(model):
        yield Sample(f"other sizes, {_text(sizes)}", random_feeds(model, seed, sizes)[0][0])


def _other(value: Any, rng: np.random.Generator) -> Any:
    """Floats of other signs and sizes, booleans of both kinds, integers up to the largest of the example."""
    if not isinstance(value, np.ndarray) or not value.size:
        return value
    if value.dtype.kind == "b":
        return rng.random(value.shape) < 0.5
    if value.dtype.kind in "iu":
        low, high = min(int(value.min()), 0), int(value.max())
        return rng.integers(low, high, value.shape, endpoint=True).astype(value.dtype)
    if value.dtype.kind == "f":
        return (np.asarray(rng.normal(size=value.shape)) * 1.5).astype(value.dtype)
    return value


def _hidden(value: Any) -> Any:
    """Integers and booleans of zeros; the floats of the example."""
    discrete = isinstance(value, np.ndarray) and value.dtype.kind in "biu"
    return np.zeros_like(value) if discrete else value


def _special(value: Any) -> Any:
    """NaN and infinities and both zeros among the floats."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    changed = value.copy()
    count = min(changed.size // 2, len(_SPECIAL))
    changed.reshape(-1)[:count] = _SPECIAL[:count]
    return changed


def _other_sizes(model: ir.Model) -> dict[str, int]:
    dims = (dim for value in model.graph.inputs for dim in value.shape or ())
    names = dict.fromkeys(
        str(dim.value) for dim in dims if not isinstance(dim, int) and dim.value is not None
    )
    plain = [name for name in names if name.isidentifier()]
    return {name: _SIZES[index % len(_SIZES)] for index, name in enumerate(plain)}


def _text(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
