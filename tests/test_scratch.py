"""Scratch folders go with their owner; those of killed processes go with the next one, and no others."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from optc.scratch import Scratch


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def aged(path: Path) -> Path:
    os.utime(path, (time.time() - 3600,) * 2)
    return path


def test_it_goes_with_its_object() -> None:
    made = Scratch()
    (made.path / "weights").write_bytes(b"x")
    path = made.path
    del made
    gc.collect()
    assert not path.exists()


def test_what_a_killed_process_left_goes_with_the_next() -> None:
    code = "from optc.scratch import Scratch; import os; s = Scratch(); print(s.path, flush=True); input()"
    options = {"env": {**os.environ, "TMPDIR": tempfile.gettempdir()}, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    ) as process:
        assert process.stdout is not None
        path = aged(Path(process.stdout.readline().strip()))
        Scratch()
        assert path.is_dir()  # its owner lives
        process.send_signal(signal.SIGKILL)
    assert path.is_dir()
    Scratch()
    assert not path.exists()


def test_newborn_folders_links_and_those_of_others_stay(tmp_path: Path) -> None:
    newborn, elsewhere = tmp_path / "optc-scratch-new", tmp_path / "precious"
    newborn.mkdir()
    elsewhere.mkdir()
    aged(elsewhere)
    (tmp_path / "optc-scratch-link").symlink_to(elsewhere)
    Scratch()
    assert newborn.is_dir() and elsewhere.is_dir()
    aged(newborn)
    Scratch()
    assert not newborn.exists() and elsewhere.is_dir()
