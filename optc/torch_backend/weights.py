"""Telling at every call, cheaply, whether tensors that were baked into an executable are still the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch

from .memory import Spots, Turns, elements

_version, _address = attrgetter("_version"), torch.Tensor.data_ptr


class Watch:
    """Remembers tensors by identity, version counter, address, and contents.

    The version counter sees every in-place update that autograd knows of: ``load_state_dict``, steps of
    optimizers, code under ``no_grad``. The address sees ``p.data = other``. Writes through ``p.data`` and
    numpy leave no trace in either. Of the contents every call looks at a few places in each tensor, so that
    a change of a tensor as a whole is seen at once, and at a part of all of them: a change of a single
    element of a large one is seen when its turn comes, within ``turns`` calls.
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
        arrays = [elements(tensor) for tensor in tensors]
        self._spots, self._turns = Spots(arrays), Turns(arrays)

    @property
    def turns(self) -> int:
        """In how many calls every element is looked at."""
        return len(self._turns)

    def holds(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether these are the tensors, unchanged."""
        return (
            identity_of(tensors) == self.identity
            and self._alive[0]
            and self._versions_of(tensors) == self._versions
            and list(map(_address, tensors)) == self._addresses
            and self._spots.same()
            and self._turns.same()
        )

    def _versions_of(self, tensors: Sequence[torch.Tensor]) -> list[int]:
        if self._all_versioned:
            return list(map(_version, tensors))
        return [tensors[i]._version for i in self._versioned]


def identity_of(tensors: Sequence[Any]) -> tuple[int, ...]:
    """Equal for the same tensors, as long as all of them live."""
    return tuple(map(id, tensors))
