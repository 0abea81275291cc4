"""Artifacts: saved whole or not at all, loaded only unchanged, called like the model they came from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from optc import artifact as artifacts
from optc import atomic, manifest
from optc.artifact import Artifact
from optc.capture.signature import Signature
from optc.errors import UserError
from optc.targets import cpu

TEXT = """<ir_version: 10, opset_import: ["": 18]>
g (float[B,4] x, float[B,4] other) => (float[B,4] total, float[B,4] gap)
{ total = Add(x, other) gap = Sub(x, other) }"""


@dataclass
class Source:
    """As much of a captured model as an artifact needs."""

    signature: Signature
    source_hash: str = "0" * 64


REPORT: dict[str, Any] = {
    "source": "x",
    "target": "cpu",
    "threads": 1,
    "passes": [],
    "final": {
        "matched": {},
        "error": None,
        "ms_before": None,
        "ms_after": None,
        "bytes_before": 0,
        "bytes_after": 0,
        "detail": {},
    },
}


def make(text: str = TEXT, **options: Any) -> Artifact:
    model = ir.from_proto(onnx.parser.parse_model(text))
    inputs, outputs = ([str(v.name) for v in vs] for vs in (model.graph.inputs, model.graph.outputs))
    captured: Any = Source(Signature.of_names(inputs, outputs))
    return Artifact.make(
        model,
        captured=captured,
        target=cpu.TARGET,
        pipeline="simplify",
        decisions={"gelu": "inline"},
        report=REPORT,
        options={"threads": 1, **options},
    )


X, OTHER = np.ones((3, 4), np.float32), np.full((3, 4), 2, np.float32)


def test_it_shows_what_it_takes_gives_and_is_for() -> None:
    assert repr(make()) == "<Artifact (x, other) -> (total, gap) for cpu: simplify>"


def test_numpy_and_torch_calls(tmp_path: Path) -> None:
    made = make()
    total, gap = made(X, other=OTHER)
    assert isinstance(total, np.ndarray)
    np.testing.assert_array_equal(gap, X - OTHER)
    total, gap = made(torch.from_numpy(X), torch.from_numpy(OTHER))
    assert torch.equal(total, torch.from_numpy(X + OTHER))
    np.testing.assert_array_equal(made.run({"x": X, "other": OTHER})["total"], X + OTHER)


def test_round_trip_and_stock_runtime(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    loaded = artifacts.load(tmp_path / "a", threads=2)
    np.testing.assert_array_equal(loaded(X, OTHER)[0], X + OTHER)
    assert loaded.manifest.decisions == {"gelu": "inline"}
    assert loaded.manifest.options["threads"] == 2
    assert loaded.report == REPORT
    session = ort.InferenceSession(str(tmp_path / "a" / "model.onnx"))
    np.testing.assert_array_equal(session.run(["gap"], {"x": X, "other": OTHER})[0], X - OTHER)
    loaded.save(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b") | {
        "manifest.json": files(tmp_path / "a")["manifest.json"]
    }


def files(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


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
    cases = {"file": "is a file", "full": "not empty", "strange": "not empty", "no/such": "does not exist"}
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


def test_manifest_that_reaches_out_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"files": {"../secret": "0"}}))
    with pytest.raises(UserError, match="damaged at 'files'"):
        artifacts.load(tmp_path / "a")
    path.write_text(json.dumps(data | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        artifacts.load(tmp_path / "a")


@pytest.mark.parametrize(
    "feeds,message",
    [
        ({"x": X}, "no value for 'other'"),
        ({"x": X, "othr": OTHER}, "did you mean 'other'"),
        ({"x": X.astype(np.float64), "other": OTHER}, "must be float32, and got float64"),
        ({"x": X[0], "other": OTHER}, "of rank 2, and got shape"),
        ({"x": X[:, :3], "other": OTHER}, "size 4 in dimension 1"),
        ({"x": X, "other": OTHER[:2]}, "same size as 'x'"),
        ({"x": X, "other": [OTHER]}, "an array, and got a list"),
        ({"x": X, "other": None}, "an array, and got nothing"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make().run(feeds)


def test_inputs_that_are_not_contiguous() -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6).T[:, ::-1][:3]
    np.testing.assert_array_equal(make().run({"x": wide, "other": OTHER})["total"], wide + OTHER)


def test_sequences_optionals_and_scalars() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (seq(float[N]) parts, float[] factor) => (float[M] y)
    { c = ConcatFromSequence<axis=0>(parts) y = Mul(c, factor) }"""
    made = make(text)
    parts = [np.ones(2, np.float32), np.ones(3, np.float32)]
    assert made.run({"parts": parts, "factor": 2})["y"].tolist() == [2.0] * 5
    assert made([torch.ones(2)], torch.tensor(3.0)).tolist() == [3.0, 3.0]
    with pytest.raises(UserError, match="a sequence"):
        made.run({"parts": parts[0], "factor": 2})


def test_types_that_numpy_lacks() -> None:
    text = '<ir_version: 10, opset_import: ["": 18]> g (bfloat16[N] x) => (bfloat16[N] y) { y = Identity(x) }'
    x = torch.tensor([1.0, -2.5], dtype=torch.bfloat16)
    assert torch.equal(make(text)(x), x)


def test_calls_from_several_threads() -> None:
    made, wrong = make(), []

    def call(i: int) -> None:
        for n in range(20):
            x = np.full((i + 1, 4), n, np.float32)
            if not np.array_equal(made.run({"x": x, "other": x})["total"], x + x):
                wrong.append((i, n))

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_unknown_target_option() -> None:
    with pytest.raises(UserError, match="did you mean 'enable_mem_pattern'"):
        make(enable_mem_patern=True).run({"x": X, "other": OTHER})


def test_results_may_be_written_to() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[2] x) => (float[2] y, float[2] c) <float[2] c = {1, 2}> { y = Identity(x) }"""
    made, x = make(text), np.array([5, 6], np.float32)
    for result in made.run({"x": x}).values():
        result[:] = 99
    assert x.tolist() == [5, 6]
    assert made.run({"x": x})["c"].tolist() == [1, 2]
