"""A sequence of named arrays that moves to a temporary file when it grows."""

from __future__ import annotations

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
    """Where in the file an array lies."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


class Spool(Sequence[dict[str, Any]]):
    """Rows of values by name that can be read any number of times, in memory that is bounded.

    Arrays are copied; beyond ``limit`` bytes they go to a file that the system deletes with the process. What
    is not an array of plain numbers (strings, lists, None) stays in memory.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), *, limit: int = LIMIT) -> None:
        self._rows: list[dict[str, Any]] = []
        self._limit, self._held = limit, 0
        self._file: IO[bytes] | None = None
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
        if self._held + value.nbytes <= self._limit:
            self._held += value.nbytes
            return value.copy()
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="optc-")  # noqa: SIM115
        place = _Place(self._file.seek(0, 2), value.dtype, value.shape)
        self._file.write(np.ascontiguousarray(value).tobytes())
        return place

    def _read(self, value: Any) -> Any:
        if not isinstance(value, _Place):
            return value
        assert self._file is not None
        array = np.empty(value.shape, value.dtype)
        self._file.seek(value.offset)
        self._file.readinto(array.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        return array
