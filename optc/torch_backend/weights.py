"""Telling at every call, cheaply, whether tensors that were baked into an executable are still the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter, is_, methodcaller
from typing import Any

import torch

_POSITIONS = 16  # elements looked at per tensor
_version, _address = attrgetter("_version"), methodcaller("data_ptr")


class Watch:
    """Remembers tensors by identity, version counter, address, and a few of their elements.

    The version counter sees every in-place update that autograd knows of: ``load_state_dict``, steps of
    optimizers, code under ``no_grad``. The address sees ``p.data = other``. Writes through ``p.data`` leave
    no trace in either; the elements see those that change a tensor as a whole. What changes single elements
    through ``.data`` is not seen.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], dropped: Callable[[], None] | None = None) -> None:
        notify = None if dropped is None else (lambda _: dropped())
        self._references = [weakref.ref(tensor, notify) for tensor in tensors]
        self.identity = identity_of(tensors)
        # Inference tensors have no version; nothing but inference mode can write to them.
        self._versioned = [i for i, tensor in enumerate(tensors) if not tensor.is_inference()]
        self._all_versioned = len(self._versioned) == len(tensors)
        self._versions = self._versions_of(tensors)
        self._addresses = list(map(_address, tensors))
        self._samples = _samples(tensors)
        self._expected = [torch.cat(group).clone() for group in self._samples]

    def holds(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether these are the tensors, unchanged."""
        return (
            all(map(is_, tensors, (reference() for reference in self._references)))
            and self._versions_of(tensors) == self._versions
            and list(map(_address, tensors)) == self._addresses
            and all(map(torch.equal, map(torch.cat, self._samples), self._expected))
        )

    def _versions_of(self, tensors: Sequence[torch.Tensor]) -> list[int]:
        if self._all_versioned:
            return list(map(_version, tensors))
        return [tensors[i]._version for i in self._versioned]


def identity_of(tensors: Sequence[Any]) -> tuple[int, ...]:
    """Equal for the same tensors, as long as all of them live."""
    return tuple(map(id, tensors))


def _samples(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Views of a few elements of every tensor, as whole numbers, grouped by the size of an element.

    They do not keep a tensor's Python object alive, only its memory.
    """
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() == 0 or tensor.layout != torch.strided:
            continue
        plain = tensor.detach()
        if not (flat := plain).is_contiguous():
            flat = plain.as_strided((1,), (1,)) if plain.storage_offset() == 0 else plain[(0,) * plain.dim()]
        flat = flat.reshape(-1)
        step = max(1, flat.numel() // _POSITIONS)
        bits = _BITS[tensor.element_size()]
        groups.setdefault(bits, []).append(flat[::step][:_POSITIONS].view(bits))
    return list(groups.values())


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
