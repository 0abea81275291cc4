"""Noticing writes to memory that leave no trace: every call reads a little of it, and all of it in turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]

CALLS = 256  # in about as many calls, everything is looked at
_SPOTS = 8  # words of each tensor that every call looks at
_WORD = 8  # bytes
_EVERY = 4  # calls between turns: starting a turn costs as much as reading half a megabyte
_LEAST = 1 << 14  # bytes looked at in a turn, if there are as many
_MOST_PIECES = 8  # of one turn
_ROW = 509  # words; a prime, so that rows of a matrix that trade places land in other columns


def elements(tensor: torch.Tensor) -> Array:
    """Every element once, in the order of memory; the array keeps the memory alive, and not the tensor."""
    if tensor.numel() == 0 or tensor.layout != torch.strided:
        return np.empty(0, np.uint8)
    width = tensor.element_size()
    memory = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()
    kept = [axis for axis, size in enumerate(tensor.shape) if size > 1 and tensor.stride(axis)]
    kept.sort(key=tensor.stride, reverse=True)
    shape, strides = [tensor.shape[a] for a in kept], [tensor.stride(a) * width for a in kept]
    return np.ndarray(shape, f"V{width}", memory.data, tensor.storage_offset() * width, strides)


class Spots:
    """A few words of each array, evenly spread, that one gather reads.

    What changes an array as a whole, or an eighth of it in one place, is seen. Arrays with gaps are left
    out: the words between their elements belong to somebody else.
    """

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._kept = [array for array in arrays if array.size and array.flags.c_contiguous]
        places = [np.empty(0, np.int64), *map(_places, self._kept)]
        addresses = np.concatenate(places)
        first = int(addresses.min(initial=1 << 60))
        self._words = np.asarray(_Space(first, int(addresses.max(initial=first)) + 1 - first))
        self._places = addresses - first
        self._expected = self._read()

    def same(self) -> bool:
        """Whether they hold what they held; their memory must still be there."""
        return self._read() == self._expected

    def _read(self) -> bytes:
        return self._words.take(self._places).tobytes()


class Turns:
    """All bytes of the arrays, a part of them at a time, all in about `CALLS` calls of ``same``.

    What fits into one turn is read at every call.
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        share = sum(array.nbytes for array in arrays) * _EVERY // CALLS
        size = max(_LEAST, share) // _WORD * _WORD
        self._groups = list(_grouped((part for array in arrays for part in _parts(array, size)), size))
        self._expected = [_checksums(group) for group in self._groups]
        self._every = _EVERY if len(self._groups) > 1 else 1
        self._calls = count()  # taking the next number is safe from several threads

    def __len__(self) -> int:
        """In how many calls all of it is looked at."""
        return len(self._groups) * self._every

    def same(self) -> bool:
        """Whether the part whose turn it is holds what it held."""
        turn, waiting = divmod(next(self._calls), self._every)
        if waiting or not self._groups:
            return True
        turn %= len(self._groups)
        return _checksums(self._groups[turn]) == self._expected[turn]


class _Space:
    """A view of memory from the first array to the last, of which only words of arrays are read."""

    def __init__(self, first: int, length: int) -> None:
        self.__array_interface__ = {
            "data": (first * _WORD, True),
            "shape": (length,),
            "typestr": np.dtype(np.uint64).str,
            "version": 3,
        }


def _places(array: Array) -> Array:
    """Addresses of words, counted in words; the first and last may reach a few bytes over the edge."""
    start = int(array.__array_interface__["data"][0])
    first, last = start // _WORD, (start + array.nbytes - 1) // _WORD
    return np.linspace(first, last, min(_SPOTS, last - first + 1)).astype(np.int64)


def _parts(array: Array, size: int) -> Iterator[Array]:
    """Pieces of at most ``size`` bytes; rows of an array with gaps may be larger."""
    if array.flags.c_contiguous:
        array, step = array.reshape(-1).view(np.uint8), size
    else:
        step = max(1, size * len(array) // array.nbytes)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _grouped(parts: Iterable[Array], size: int) -> Iterator[list[Array]]:
    group: list[Array] = []
    for part in parts:
        if group and (len(group) == _MOST_PIECES or sum(p.nbytes for p in group) + part.nbytes > size):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _checksums(group: Sequence[Array]) -> list[int]:
    return [_checksum(part) for part in group]


def _checksum(part: Array) -> int:
    """Differs when any word differs, and practically always when several do.

    Sums of columns of 64-bit words go at the speed of memory, several times that of a CRC.
    """
    data = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
    whole = len(data) // (_ROW * _WORD) * (_ROW * _WORD)
    columns = np.add.reduce(data[:whole].view(np.uint64).reshape(-1, _ROW), 0)
    return hash((columns.tobytes(), data[whole:].tobytes()))
