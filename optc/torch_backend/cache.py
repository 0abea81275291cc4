"""Executables on disk, shared by processes: one directory each, complete or not there at all.

A new entry is written beside the others under a hidden name and renamed. Reading marks an entry as used;
those that were not used for longest are removed when the cache outgrows its bound. An entry whose files are
not what was written is removed, and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Used = TypeVar("Used")

LIMIT_BYTES = 4 << 30
_FACTS = "executable.json"
_LARGE = 1 << 20  # bytes; smaller files are checked before anything reads them
_STALE_SECONDS = 3600.0  # a hidden directory of that age was left by a process that was killed


class Cache:
    """A directory of entries. It may vanish or be unwritable at any time: then there is just no cache."""

    def __init__(self, root: Path, limit: int = LIMIT_BYTES) -> None:
        self._root, self._limit = root, limit

    def read(self, key: str, use: Callable[[Path, str], Used]) -> Used | None:
        """What ``use`` makes of the directory of an entry and the text stored with it.

        None if it is not there or not intact. Large files are checked while ``use`` works, which takes about
        as long. Where it cannot make anything of the entry, that is not intact either.
        """
        entry = self._root / key
        try:
            facts = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
            text, expected = facts["text"], dict(facts["files"])
            large = [name for name in expected if (entry / name).stat().st_size > _LARGE]
            intact = all(_hash(entry / name) == expected[name] for name in expected if name not in large)
            if intact:
                with ThreadPoolExecutor() as pool:
                    hashes = pool.map(_hash, [entry / name for name in large])
                    used = use(entry, text)
                    intact = list(hashes) == [expected[name] for name in large]
        except FileNotFoundError:
            if entry.exists():
                self._remove(entry)
            return None
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            self._remove(entry)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)
        return used

    def write(self, key: str, text: str, emit: Callable[[Path], Sequence[str]]) -> Path | None:
        """Makes an entry of the files that ``emit`` writes; None where the disk does not allow it.

        When another process has made the same entry meanwhile, that one stays.
        """
        staging = self._root / f".{key[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            staging.mkdir(parents=True)
            files = {name: _hash(staging / name) for name in emit(staging)}
            (staging / _FACTS).write_text(json.dumps({"files": files, "text": text}), encoding="utf-8")
            with contextlib.suppress(OSError):  # it exists
                staging.rename(self._root / key)
            self._trim(keep=key)
        except OSError:
            return None
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return self._root / key

    def forget(self, key: str) -> None:
        """Removes an entry that turned out to be of no use."""
        self._remove(self._root / key)

    def _trim(self, keep: str) -> None:
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self._limit:
                return
            if path.name != keep:
                self._remove(path)
                total -= size

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, directory); what killed processes left is removed on the way."""
        for path in self._root.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                used = path.stat().st_mtime
                if not path.name.startswith("."):
                    yield used, sum(file.stat().st_size for file in path.iterdir()), path
                elif time.time() - used > _STALE_SECONDS:
                    self._remove(path)

    def _remove(self, entry: Path) -> None:
        """In two steps, so that nobody sees half of it."""
        aside = self._root / f".{entry.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            entry.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def find_cache(option: bool | str) -> Cache | None:
    """The cache that the option ``cache`` and the environment ask for.

    ``OPTC_CACHE_DIR`` names the directory, and switches the cache off when it is empty; otherwise it is in
    ``XDG_CACHE_HOME``, or ``~/.cache``. ``OPTC_CACHE_BYTES`` bounds its size.
    """
    if option is False:
        return None
    directory = option if isinstance(option, str) else os.environ.get("OPTC_CACHE_DIR")
    if directory == "":
        return None
    if directory is None:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        directory = f"{home}/optc"
    limit = os.environ.get("OPTC_CACHE_BYTES", "")
    return Cache(
        Path(directory).expanduser() / "torch_compile", int(limit) if limit.isdigit() else LIMIT_BYTES
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
