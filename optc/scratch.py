"""Temporary folders for large files that do not stay behind when the process is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from optc import folderlock

_PREFIX = "optc-scratch-"
_NEWBORN_SECONDS = 60.0  # between making a folder and locking it


class Scratch:
    """A folder that goes with this object, at the latest with the process.

    After a kill it is removed by the next process that makes one: the lock on it, which other containers see
    too, is gone then.
    """

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        weakref.finalize(self, _remove, self.path, folderlock.hold(self.path))


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _sweep(parent: Path) -> None:
    """Removes what killed processes of this user left."""
    for path in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # others sweep too
            if not path.is_symlink() and _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    status = path.stat()
    if status.st_uid != os.getuid() or time.time() - status.st_mtime < _NEWBORN_SECONDS:
        return False
    return not folderlock.is_held(path)
