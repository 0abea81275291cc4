"""Factories: the right function is found and called, and what goes wrong is said in the user's terms."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from optc.capture import capture
from optc.capture.factory import call_factory, resolve
from optc.errors import UserError

MODEL = """
import torch
from neighbour import SIZE

def make():
    return torch.nn.Linear(SIZE, 2), torch.ones(3, SIZE)

def make_dynamic():
    return torch.nn.Linear(SIZE, 2), {"input": torch.ones(3, SIZE)}, {"input": {0: "batch"}}

def fail():
    raise RuntimeError("no weights")

def returns_module():
    return torch.nn.Linear(1, 1)

def returns_four():
    return 1, 2, 3, 4

def returns_other():
    return "model", ()

CONSTANT = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "v1.5" / "made_models"
    package.mkdir(parents=True)
    (package / "model.py").write_text(MODEL)
    (package / "neighbour.py").write_text("SIZE = 4\n")
    (package / "broken.py").write_text("x = 1\nx.no_such_thing\n")
    (package / "wrong.py").write_text("def f(:\n    pass\n")
    (package / "needs.py").write_text("import surely_not_installed\n")
    (package / "binary.py").write_bytes(b"x = 1\0\n")
    monkeypatch.chdir(package)
    return package


def test_what_a_factory_draws_is_the_same_in_every_process(folder: Path) -> None:
    """Two contestants of `optc bench`, or a compile and a bench, mean the same network."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = call_factory("model.py:make").module.weight
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, call_factory("model.py:make").module.weight)


def test_a_factory_in_a_file(folder: Path) -> None:
    for text in (f"{folder}/model.py:make", "model.py:make", "./model.py:make"):
        captured = capture(text)
        assert captured.source == text and captured.examples_note == "from the factory"
        assert captured.examples[0]["input"].shape == (3, 4)


def test_a_factory_in_a_module_of_the_working_directory(folder: Path) -> None:
    captured = capture("model:make_dynamic")
    assert str(captured.model.graph.inputs[0].shape[0]) == "batch"  # type: ignore[index]


def test_other_functions_are_resolved_too(folder: Path) -> None:
    assert resolve("model.py:make")().__class__ is tuple
    assert resolve("math:sqrt", "metric")(9) == 3
    with pytest.raises(UserError, match="has no metric 'sqr'"):
        resolve("math:sqr", "metric")


@pytest.mark.parametrize(
    ("text", "what", "place", "hint"),
    [
        ("model.py:maek", "has no factory 'maek'", "model.py:maek", "did you mean 'make'"),
        ("model.py:CONSTANT", "is of type int, not a function", "CONSTANT", "check the name"),
        ("model.py:fail", "RuntimeError: no weights", "model.py:12", "fix"),
        (
            "model.py:returns_module",
            "returned an object of type Linear",
            "returns_module",
            "return (nn.Module, example_inputs)",
        ),
        ("model.py:returns_four", "a tuple of 4", "returns_four", "return (nn.Module, example_inputs)"),
        ("model.py:returns_other", "is a str, not an nn.Module", "returns_other", "return (nn.Module"),
        ("modle.py:make", "no such file", "modle.py", "did you mean model.py"),
        ("broken.py:make", "AttributeError", "broken.py:2", "fix"),
        ("wrong.py:make", "SyntaxError", "wrong.py:1", "fix"),
        ("binary.py:make", "null bytes", "binary.py:make", "fix"),
        ("needs.py:make", "No module named 'surely_not_installed'", "needs.py:1", "fix"),
        ("no_such_package.part:make", "no module 'no_such_package'", "no_such_package", "installed"),
        ("model.py:", "named by a module and a function", "model.py:", "path/file.py:name"),
        ("v1.5/model", "no such file", "v1.5/model", "package.module:factory"),
    ],
)
def test_what_goes_wrong_is_said(folder: Path, text: str, what: str, place: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        capture(text)
    assert what in caught.value.what
    assert place in (caught.value.where or "") and hint in (caught.value.hint or "")
    assert "Traceback" not in str(caught.value)


def test_a_broken_file_leaves_nothing_imported(folder: Path) -> None:
    import sys

    path = list(sys.path)
    with pytest.raises(UserError):
        call_factory("broken.py:make")
    assert "broken" not in sys.modules and sys.path == path


@pytest.mark.parametrize("given", [{"example_inputs": ()}, {"dynamic_shapes": ()}])
def test_a_factory_brings_its_own_inputs(folder: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="brings its own"):
        capture("model.py:make", **given)


def test_progress_is_shown_around_a_capture(folder: Path) -> None:
    seen = []
    capture("model.py:make", progress=lambda items, text: seen.append(text) or items)
    assert seen == ["capture"]
    assert logging.getLogger("torch").level != logging.CRITICAL
