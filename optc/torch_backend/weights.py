"""Telling at every call, cheaply, whether tensors that were baked into an executable are still the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np
import torch

_POSITIONS = 8  # elements looked at per tensor
_version, _address = attrgetter("_version"), methodcaller("data_ptr")


class Watch:
    """Remembers tensors by identity, version counter, address, and a few of their elements.

    The version counter sees every in-place update that autograd knows of: ``load_state_dict``, steps of
    optimizers, code under ``no_grad``. The address sees ``p.data = other``. Writes through ``p.data`` leave
    no trace in either; the elements see those that change a tensor as a whole. What changes single elements
    through ``.data`` is not seen.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], dropped: Callable[[], None] | None = None) -> None:
        self._alive = alive = [True]  # as long as it is, no other tensor can have one of the identities

        def gone(_: Any) -> None:
            alive[0] = False
            if dropped is not None:
                dropped()

        self._references = [weakref.ref(tensor, gone) for tensor in tensors]
        self.identity = identity_of(tensors)
        # Inference tensors have no version; nothing but inference mode can write to them.
        self._versioned = [i for i, tensor in enumerate(tensors) if not tensor.is_inference()]
        self._all_versioned = len(self._versioned) == len(tensors)
        self._versions = self._versions_of(tensors)
        self._addresses = list(map(_address, tensors))
        self._samples = [block for tensor in tensors for block in _samples(tensor)]
        self._expected = b"".join(self._samples)

    def holds(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether these are the tensors, unchanged."""
        return (
            identity_of(tensors) == self.identity
            and self._alive[0]
            and self._versions_of(tensors) == self._versions
            and list(map(_address, tensors)) == self._addresses
            and b"".join(self._samples) == self._expected
        )

    def _versions_of(self, tensors: Sequence[torch.Tensor]) -> list[int]:
        if self._all_versioned:
            return list(map(_version, tensors))
        return [tensors[i]._version for i in self._versioned]


def identity_of(tensors: Sequence[Any]) -> tuple[int, ...]:
    """Equal for the same tensors, as long as all of them live."""
    return tuple(map(id, tensors))


def _samples(tensor: torch.Tensor) -> list[memoryview]:
    """Bytes of a few elements, from the first to the last; they keep the memory alive, and not the tensor."""
    if tensor.numel() == 0 or tensor.layout != torch.strided:
        return []
    width = tensor.element_size()
    flat = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    memory = flat.numpy().data
    places = np.linspace(0, tensor.numel() - 1, min(_POSITIONS, tensor.numel()), dtype=np.int64)
    steps = np.unravel_index(places, tuple(tensor.shape)) if tensor.dim() else ()
    offsets = np.full(len(places), tensor.storage_offset())
    for step, stride in zip(steps, tensor.stride(), strict=True):
        offsets += step * stride
    return [memory[offset * width : (offset + 1) * width] for offset in offsets.tolist()]
