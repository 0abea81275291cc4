"""An artifact's directory: written whole or not at all, loaded only unchanged; what is not ours stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_artifact import OTHER, TEXT, X, files, make

from optc import artifact as artifacts
from optc import atomic, manifest
from optc.errors import UserError


def test_same_bytes_again_and_no_leftovers(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    first = files(tmp_path / "a")
    assert sorted(first) == ["manifest.json", "model.onnx", "report.html", "report.json"]
    make().save(tmp_path / "a")
    assert files(tmp_path / "a") == first
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("exchange", [True, False])
def test_foreign_files_survive(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    target = tmp_path / "a"
    make().save(target)
    (target / "notes.txt").write_text("mine")
    (target / "folder").mkdir()
    (target / "folder" / "more.txt").write_text("mine too")
    (target / "link").symlink_to("nowhere")
    make(TEXT.replace("Sub", "Mul")).save(target)
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "folder" / "more.txt").read_text() == "mine too"
    assert (target / "link").readlink() == Path("nowhere")
    np.testing.assert_array_equal(artifacts.load(target)(X, OTHER)[1], X * OTHER)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    data = json.loads((tmp_path / "a" / "manifest.json").read_text())
    data["files"] = {"other.bin": "0"}  # an artifact of another target, and a user's own model.onnx
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(data))
    before = files(tmp_path / "a")
    with pytest.raises(UserError, match="taken by a file that is not ours"):
        make().save(tmp_path / "a")
    assert files(tmp_path / "a") == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_destinations_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "manifest.json").write_text('{"name": "a web app"}')
    cases = {"file": "is a file", "full": "not empty", "strange": "not empty"}
    cases |= {"file/a": "inside a file", "file/a/b": "inside a file", "/": "not empty"}
    (tmp_path / "circle").symlink_to("circle")
    cases |= {"circle": "circle", "circle/a/b": "circle"}
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            make().save(tmp_path / name)
    assert (tmp_path / "full" / "x").read_text() == "x"
    (tmp_path / "empty").mkdir()
    make().save(tmp_path / "empty")
    assert (tmp_path / "empty" / "model.onnx").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_unwritable_destination(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        make().save(tmp_path / "a")
    tmp_path.chmod(0o700)


def test_failure_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save(tmp_path / "a")
    before = files(tmp_path / "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "hashes", full)
    with pytest.raises(UserError, match="No space left"):
        make(TEXT.replace("Sub", "Mul")).save(tmp_path / "a")
    assert files(tmp_path / "a") == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_missing_folders_around_it_are_made(tmp_path: Path) -> None:
    make().save(tmp_path / "one" / "two" / "a")
    make().save(tmp_path / "one" / "two" / "a")
    assert (tmp_path / "one" / "two" / "a" / "model.onnx").exists()


def test_folders_that_were_made_go_again_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were there before stay, and so does one in which something else lies by then."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def taken(*_: object) -> None:
        (tmp_path / "mine" / "one" / "file").write_text("x")
        full()

    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(manifest, "hashes", full)
    with pytest.raises(UserError, match="No space left"):
        make().save(tmp_path / "mine" / "one" / "two" / "a")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine"]
    monkeypatch.setattr(manifest, "hashes", taken)
    with pytest.raises(UserError, match="No space left"):
        make().save(tmp_path / "mine" / "one" / "two" / "a")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "mine", "one"]


KILLED = """
import os, signal, sys
from pathlib import Path
from optc import atomic
own = lambda d: frozenset({"one", "two"})
with atomic.staged(Path(sys.argv[1]), own) as staging:
    (staging / "one").write_text("new")
    if sys.argv[2] == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
    (staging / "two").write_text("new")
    atomic._exchange = lambda a, b: False
    rename, calls = Path.rename, []
    def killing(self, target):
        result = rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = killing
"""


@pytest.mark.parametrize("moment", ["writing", "between the two renames"])
def test_killed_writer_is_cleaned_up_after(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "a"
    target.mkdir()
    for name in ("one", "two", "foreign"):
        (target / name).write_text("old")
    result = subprocess.run([sys.executable, "-c", KILLED, str(target), moment], check=False)
    assert result.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2 if moment == "writing" else not target.exists()
    atomic.sweep(target, lambda _: frozenset({"one", "two"}))
    assert {name: text.decode() for name, text in files(target).items()} == dict.fromkeys(
        ("one", "two", "foreign"), "old"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("exchange", [True, False])
def test_writers_at_the_same_time_do_not_mix(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    target, own = tmp_path / "a", lambda _: frozenset({"one", "two"})
    errors: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(25):
                with atomic.staged(target, own) as staging:
                    (staging / "one").write_text(text)
                    (staging / "two").write_text(text)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(str(i),)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors
    content = files(target)
    assert content["one"] == content["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_changed_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    target = tmp_path / "a"
    make().save(target)
    program = target / "model.onnx"
    content = bytearray(program.read_bytes())
    content[-3] ^= 1
    program.write_bytes(content)
    with pytest.raises(UserError, match=r"sha256 differs(.|\n)*model\.onnx"):
        artifacts.load(target)
    program.unlink()
    with pytest.raises(UserError, match=r"cannot be read(.|\n)*model\.onnx"):
        artifacts.load(target)
    for broken in ("{", "[" * 100_000):
        (target / "manifest.json").write_text(broken)
        with pytest.raises(UserError, match="manifest cannot be read"):
            artifacts.load(target)
    with pytest.raises(UserError, match="no such directory"):
        artifacts.load(tmp_path / "b")
    with pytest.raises(UserError, match=r"no manifest\.json"):
        artifacts.load(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_pipe_among_the_files_is_not_waited_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().save(tmp_path / "a")
    opened: list[str] = []
    monkeypatch.setattr(artifacts.Artifact, "_loaded", lambda self: opened.append(name))
    (tmp_path / "a" / name).unlink()
    os.mkfifo(tmp_path / "a" / name)
    with pytest.raises(UserError, match="not a regular file"):
        artifacts.load(tmp_path / "a")
    assert not opened
    if name == "manifest.json":
        with pytest.raises(UserError, match="not an artifact of optc"):
            make().save(tmp_path / "a")


def test_a_folder_with_a_manifest_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not an artifact of optc"):
        make().save(tmp_path)


def test_manifest_that_reaches_out_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"files": {"../secret": "0"}}))
    with pytest.raises(UserError, match="damaged at 'files'"):
        artifacts.load(tmp_path / "a")
    path.write_text(json.dumps(data | {"files": {}}))  # nothing that loading would check
    with pytest.raises(UserError, match="damaged at 'files'"):
        artifacts.load(tmp_path / "a")
    path.write_text(json.dumps(data | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        artifacts.load(tmp_path / "a")
