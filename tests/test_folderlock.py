"""A lock on a folder is seen by others for as long as its holder lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optc import folderlock


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    assert not folderlock.is_held(tmp_path)
    lock = folderlock.hold(tmp_path)
    assert folderlock.is_held(tmp_path)
    os.close(lock)
    assert not folderlock.is_held(tmp_path)


def test_a_lock_goes_with_the_process(tmp_path: Path) -> None:
    code = "import pathlib, sys; from optc import folderlock; folderlock.hold(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('held', flush=True); input()", tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert folderlock.is_held(tmp_path)
        process.kill()
    assert not folderlock.is_held(tmp_path)


def test_what_is_no_folder_has_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "nothing"):
        with pytest.raises(OSError):
            folderlock.is_held(tmp_path / name)
