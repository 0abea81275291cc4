"""Replacing a directory as a whole: whoever looks, at whatever moment, sees the old one or the new one.

The new content is written to a hidden sibling, which then changes places with the directory. A process that
is killed leaves at most that sibling; the next one that writes there removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from optc import folderlock

_NEW, _OLD = ".new", ".old"
_ATTEMPTS = 100  # each failed one means that another process has just replaced the directory


@contextlib.contextmanager
def staged(directory: Path, own_files: Callable[[Path], frozenset[str]]) -> Iterator[Path]:
    """A directory to write to that takes the place of ``directory`` when the block ends without an error.

    Entries of the old directory that ``own_files(directory)`` does not name move along. What other processes
    left behind when they were killed is removed first.

    Raises:
        OSError: the parent cannot be written to.
    """
    directory = directory.resolve()
    sweep(directory, own_files)
    staging = directory.with_name(f".{directory.name}.optc-{os.getpid()}-{secrets.token_hex(4)}{_NEW}")
    staging.mkdir()
    lock = folderlock.hold(staging)  # tells sweepers that we are alive
    try:
        yield staging
        _sync(staging)
        _install(staging, directory, own_files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def folders(path: Path) -> Iterator[None]:
    """Makes ``path`` and the folders around it where they are missing; they go again if the block fails.

    Raises:
        OSError: they cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # another process has put something there, or it was not made
                folder.rmdir()
        raise


def sweep(directory: Path, own_files: Callable[[Path], frozenset[str]]) -> None:
    """Removes what killed processes left next to ``directory``, and puts back what one had moved aside."""
    directory = directory.resolve()
    for path in sorted(directory.parent.glob(f".{_escaped(directory.name)}.optc-*")):
        if path.suffix not in (_NEW, _OLD) or not path.is_dir() or path.is_symlink() or _in_use(path):
            continue
        if path.suffix == _OLD and not directory.exists():
            path.rename(directory)
            continue
        if path.suffix == _OLD:
            _carry(path, directory, own_files(path))
        shutil.rmtree(path, ignore_errors=True)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _in_use(path: Path) -> bool:
    pid = path.name.rpartition(".optc-")[2].partition("-")[0]
    if pid.isdigit() and _is_alive(int(pid)):
        return True
    try:
        return folderlock.is_held(path)
    except OSError:
        return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _install(staging: Path, directory: Path, own_files: Callable[[Path], frozenset[str]]) -> None:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # there is none, or another process is replacing it now
            staging.chmod(directory.stat().st_mode & 0o7777)
            _link(directory, staging, own_files(directory))
        if _put(staging, directory, own_files):
            break
    else:
        raise OSError(errno.EBUSY, "other processes keep replacing it", str(directory))
    _sync_directory(directory.parent)


def _put(staging: Path, directory: Path, own_files: Callable[[Path], frozenset[str]]) -> bool:
    """One attempt; False when another process was faster."""
    try:
        staging.rename(directory)  # works when there is none, or an empty one
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if _exchange(staging, directory):
        _carry(staging, directory, own_files(staging))  # what was put into the old one in the meantime
        return True
    aside = staging.with_suffix(_OLD)
    try:
        directory.rename(aside)
        staging.rename(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _carry(aside, directory, own_files(aside))
        shutil.rmtree(aside)
        return False
    _carry(aside, directory, own_files(aside))
    shutil.rmtree(aside)
    return True


def _link(old: Path, new: Path, own: frozenset[str]) -> None:
    """Gives ``new`` the foreign entries of ``old``, without taking them away."""
    for entry in sorted(old.iterdir()):
        target = new / entry.name
        if entry.name in own or target.exists() or target.is_symlink():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=_link_file)
        else:
            _link_file(entry, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links, or a link that may not be linked
        shutil.copy2(source, target, follow_symlinks=False)


def _carry(old: Path, new: Path, own: frozenset[str]) -> None:
    """Moves foreign entries of ``old`` that ``new`` does not have."""
    for entry in sorted(old.iterdir()):
        target = new / entry.name
        if entry.name not in own and not target.exists() and not target.is_symlink():
            _move(entry, target)


def _move(entry: Path, target: Path) -> None:
    """Waits while the directory of ``target`` is away because another process is replacing it."""
    for _ in range(_ATTEMPTS):
        try:
            entry.rename(target)
            return
        except FileNotFoundError:
            time.sleep(0.01)
    entry.rename(target)


def _exchange(a: Path, b: Path) -> bool:
    """Lets two directories change places in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(a), os.fsencode(b))
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return bool(libc.renamex_np(*names, ctypes.c_uint(2)) == 0)  # RENAME_SWAP
    if not hasattr(libc, "renameat2"):
        return False
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(libc.renameat2(at_cwd, names[0], at_cwd, names[1], ctypes.c_uint(exchange)) == 0)


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_file():
            _sync_directory(path)
    _sync_directory(directory)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
