"""Telling buffers that a model keeps changing from weights: they must not become constants."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping

import torch

_MOST_CHANGES = 3  # times in a row that an executable was made after a buffer had changed


class State:
    """What the buffers were when the last executable was made.

    A model that counts, or that sets a buffer to a new tensor, would have a new executable at every call.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self._changes: Counter[int] = Counter()

    def changing(self, tensors: Mapping[int, torch.Tensor]) -> set[int]:
        """Which of them change all the time; to be asked whenever an executable is made.

        Args:
            tensors: parameters and buffers by their place among the arguments.
        """
        changed = {i for i, tensor in tensors.items() if self._has_changed(i, tensor)}
        self._seen = {i: (weakref.ref(tensor), _version(tensor)) for i, tensor in tensors.items()}
        buffers = {i for i in changed if not isinstance(tensors[i], torch.nn.Parameter)}
        if buffers != changed:
            buffers = set()  # new weights, or another model
        self._changes = Counter({i: self._changes[i] + 1 for i in buffers})
        return {i for i, times in self._changes.items() if times >= _MOST_CHANGES}

    def _has_changed(self, index: int, tensor: torch.Tensor) -> bool:
        """Whether it was written to, or was put in the place of one that is gone: equal layers take turns."""
        if index not in self._seen:
            return False
        reference, version = self._seen[index]
        before = reference()
        return before is None or (before is tensor and version != _version(tensor))


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
