"""A sequence of named arrays that moves to a temporary file when it grows."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, overload

import numpy as np

# Bytes that one sequence holds in memory. The system keeps files that are read again in its cache, so more
# would buy little, and calibration would take more memory for 512 samples than for 16.
LIMIT = 4 << 20


@dataclass(frozen=True)
class _Place:
    """Where in the buffer, or the file, an array lies."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


class Spool(Sequence[dict[str, Any]]):
    """Rows of values by name that can be read any number of times, in memory that is bounded.

    Arrays are copied into one buffer; beyond ``limit`` bytes all of them go to a file that the system deletes
    with the process. One buffer, because hundreds of small arrays that stay, made between the large ones of
    the runs that gave them, keep the memory of those from going back to the system (up to 40 MB with a
    U-Net). What is not an array of plain numbers (strings, lists, None) stays in memory.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), *, limit: int = LIMIT) -> None:
        self._rows: list[dict[str, Any]] = []
        self._limit, self._size = limit, 0
        self._file: IO[bytes] = io.BytesIO()
        for row in rows:
            self.append(row)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row."""
        self._rows.append({name: self._kept(value) for name, value in row.items()})

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return {name: self._read(value) for name, value in self._rows[index].items()}

    def _kept(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            return value
        if self._size <= self._limit < self._size + value.nbytes:
            self._move()
        place = _Place(self._size, value.dtype, value.shape)
        self._file.seek(self._size)
        self._size += self._file.write(np.ascontiguousarray(value).tobytes())
        return place

    def _move(self) -> None:
        """From memory to a file."""
        held, self._file = self._file, tempfile.TemporaryFile(prefix="optc-")  # noqa: SIM115
        held.seek(0)
        shutil.copyfileobj(held, self._file)

    def _read(self, value: Any) -> Any:
        if not isinstance(value, _Place):
            return value
        array = np.empty(value.shape, value.dtype)
        self._file.seek(value.offset)
        self._file.readinto(array.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        return array
