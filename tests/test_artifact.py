"""Artifacts: called like the model they came from, and runnable in a stock runtime."""

from __future__ import annotations

import gc
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from small_artifact import OTHER, REPORT, X, files, make

from optc import artifact as artifacts
from optc import registry
from optc.errors import UserError
from optc.targets import cpu


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


def test_a_machine_that_is_not_for_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading says so at once, before the runtime fails in its own words."""
    make().save(tmp_path / "a")
    gone = replace(cpu.TARGET, check_machine=lambda: "there is no such device")
    monkeypatch.setattr(registry, "find_target", lambda _: gone)
    with pytest.raises(UserError, match=r"the artifact is for the target 'cpu': there is no such device"):
        artifacts.load(tmp_path / "a")


def test_another_machine_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save(tmp_path / "a")
    other = replace(cpu.TARGET, unlike=lambda _: ["it was tuned for another one"])
    monkeypatch.setattr(registry, "find_target", lambda _: other)
    with pytest.warns(UserWarning, match="tuned for another one; compile it again here"):
        loaded = artifacts.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded(X, OTHER)[1], X - OTHER)


def test_its_temporary_folder_goes_with_it_without_a_warning() -> None:
    artifact = make()
    artifact(X, OTHER)
    folder = artifact._files()
    assert folder.is_dir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del artifact
        gc.collect()
    assert not folder.exists() and not [w for w in caught if w.category is ResourceWarning]
