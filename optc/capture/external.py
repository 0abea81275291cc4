"""External data: the weight files beside a model, mapped and never trusted."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from optc.errors import InvalidModel


class DataFiles:
    """The data files of one model.

    Each file is mapped once, however many tensors lie in it, so a model with thousands of tensors needs few
    file handles, and a file that is replaced later (an artifact written over its own source) stays readable.

    Args:
        folders: where the files may lie, the first to look at in front: where the model is, and where it is a
            link, as in a cache of downloads, also where that leads to.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._maps: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, entries: Mapping[str, str], nbytes: int, where: str) -> npt.NDArray[np.uint8]:
        """The ``nbytes`` bytes that an ``external_data`` entry points to, as a read-only view of the file.

        Raises:
            InvalidModel: the entry leaves the model's folder, or asks for what the file does not hold.
        """
        location = entries.get("location", "")
        offset = _number(entries, "offset", 0, where)
        length = _number(entries, "length", nbytes, where)
        if length != nbytes:
            what = f"its external data is {length} bytes long, and its dims and dtype need {nbytes}"
            raise InvalidModel(what, where=where, hint=_EXPORT_AGAIN)
        data = self._mapped(location, where)
        if offset + nbytes > len(data):
            what = f"its data ends at byte {offset + nbytes}, and {location!r} has {len(data)} bytes"
            raise InvalidModel(
                what, where=where, hint="the data file is truncated or belongs to another model"
            )
        return data[offset : offset + nbytes]

    def _mapped(self, location: str, where: str) -> npt.NDArray[np.uint8]:
        if location not in self._maps:
            self._maps[location] = _map(self._inside(location, where), location, where)
        return self._maps[location]

    def _inside(self, location: str, where: str) -> str:
        if not self._folders:
            what = "its data is in an external file, and a model in memory has no folder to look in"
            raise InvalidModel(what, where=where, hint="pass the path of the .onnx file instead")
        if not location or "\0" in location or Path(location).is_absolute():
            hint = "external data must be named relative to the model file"
            raise InvalidModel(
                f"external data location {location!r} is not a relative path", where=where, hint=hint
            )
        roots = [os.path.realpath(folder) for folder in self._folders]
        found = [os.path.realpath(Path(root) / location) for root in roots]
        resolved = next((path for path in found if os.path.lexists(path)), found[0])
        if not any(os.path.commonpath([root, resolved]) == root for root in roots):
            what = f"external data {location!r} lies outside the model's folder, at {resolved}"
            hint = "keep weights beside the model; copy with links resolved (cp -rL) if you trust the file"
            raise InvalidModel(what, where=where, hint=hint)
        return resolved


def _map(path: str, location: str, where: str) -> npt.NDArray[np.uint8]:
    try:
        # Not blocking: a pipe under the name of a data file must not hang the compiler.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        what = f"external data file {location!r} cannot be opened: {error.strerror}"
        raise InvalidModel(what, where=where, hint="put the data file beside the model") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidModel(f"external data {location!r} is not a regular file", where=where)
        if status.st_size == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(handle, status.st_size, access=mmap.ACCESS_READ), np.uint8)
    finally:
        os.close(handle)


def check_entries(entries: Mapping[str, str], where: str) -> None:
    """Raises InvalidModel unless offset and length are byte counts."""
    for key in ("offset", "length"):
        _number(entries, key, 0, where)


def _number(entries: Mapping[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidModel(
            f"external data {key} {text!r} is not a byte count", where=where, hint=_EXPORT_AGAIN
        )
    return int(text)


_EXPORT_AGAIN = "the file is damaged: export the model again"
