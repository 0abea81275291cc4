"""The disk cache: entries are whole or absent, bounded, keyed by all that matters, shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from side_by_side import X, captured
from torch import nn

from optc.torch_backend import stats
from optc.torch_backend.cache import Cache, find_cache
from optc.torch_backend.graph import Graph
from optc.torch_backend.key import Unkeyed, key_of


def writer(text: str) -> Callable[[Path], list[str]]:
    def emit(directory: Path) -> list[str]:
        (directory / "model").write_text(text, encoding="utf-8")
        return ["model"]

    return emit


def read(cache: Cache, key: str) -> str | None:
    return cache.read(key, lambda entry, text: (entry / "model").read_text(encoding="utf-8") + text)


def test_entries_come_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "not" / "there")
    assert read(cache, "a") is None
    cache.write("a", "!", writer("hello"))
    assert read(cache, "a") == "hello!"
    cache.forget("a")
    assert read(cache, "a") is None


@pytest.mark.parametrize("damage", ["content", "large content", "missing file", "facts", "no facts"])
def test_damaged_entries_are_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    entry = cache.write("a", "", writer("hello" * (1_000_000 if damage == "large content" else 1)))
    assert entry is not None
    if damage == "large content":
        with (entry / "model").open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b"u")
    elif damage == "content":
        (entry / "model").write_text("hullo", encoding="utf-8")
    elif damage == "missing file":
        (entry / "model").unlink()
    elif damage == "facts":
        (entry / "executable.json").write_text("{", encoding="utf-8")
    else:
        (entry / "executable.json").unlink()
    assert read(cache, "a") is None
    assert not entry.exists()
    cache.write("a", "", writer("again"))
    assert read(cache, "a") == "again"


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3000)
    for number, key in enumerate("abc"):
        cache.write(key, "", writer(key * 800))
        os.utime(tmp_path / key, (number, number))
    read(cache, "a")  # now it is the newest
    cache.write("d", "", writer("d" * 800))
    assert [key for key in "abcd" if read(cache, key) is not None] == ["a", "c", "d"] or [
        key for key in "abcd" if read(cache, key) is not None
    ] == ["a", "d"]
    assert read(cache, "b") is None


def test_an_entry_larger_than_the_bound_still_serves_its_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10)
    assert cache.write("a", "", writer("x" * 100)) is not None
    assert read(cache, "a") == "x" * 100


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".stale"
    stale.mkdir()
    os.utime(stale, (0, 0))
    young = tmp_path / ".young"
    young.mkdir()
    Cache(tmp_path).write("a", "", writer("x"))
    assert not stale.exists() and young.exists()


def test_many_writers_and_readers(tmp_path: Path) -> None:
    """Whoever reads sees nothing or the whole entry, while others write and remove it."""
    wrong: list[str] = []

    def work(number: int) -> None:
        cache = Cache(tmp_path)
        for turn in range(30):
            cache.write("key", "", writer("same"))
            try:
                found = read(cache, "key")
            except FileNotFoundError:
                found = None  # removed by another thread just after it was found whole
            if found not in (None, "same"):
                wrong.append(str(found))
            if (turn + number) % 7 == 0:
                cache.forget("key")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {path.name for path in tmp_path.iterdir()} <= {"key"}


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = Cache(tmp_path / "file")
    assert read(cache, "a") is None
    assert cache.write("a", "", writer("x")) is None


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_cache(False) is None
    assert find_cache(True) is None  # OPTC_CACHE_DIR is empty
    assert find_cache(str(tmp_path)) is not None
    monkeypatch.delenv("OPTC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = find_cache(True)
    assert found is not None
    found.write("a", "", writer("x"))
    assert (tmp_path / "optc" / "torch_compile" / "a").is_dir()


def key(function: Callable[..., Any], *arguments: Any, options: str = "") -> str:
    graph = Graph(torch.fx.symbolic_trace(function), arguments)
    return key_of(graph, arguments, options)


def test_keys_tell_apart_what_compiles_differently() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    keys = [
        key(one, X),
        key(other, X),
        key(one, X[:1]),
        key(one, X.double()),
        key(one, X.transpose(0, 1)),
        key(one, X, options="level 2"),
        key(lambda x: x + 1, X),
        key(lambda x: x + 1.0, X),
        key(lambda x: x - 1, X),
        key(lambda x: x.sum(1), X),
        key(lambda x: x.sum(0), X),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        keys.append(key(one, X))
    assert len(set(keys)) == len(keys)
    assert key(one, X) == keys[0]


def test_functions_made_by_functions_have_names() -> None:
    """``max_pool2d`` is one: every ResNet has it."""
    pool = torch.fx.symbolic_trace(lambda x: nn.functional.max_pool2d(x, 2))
    other = torch.fx.symbolic_trace(lambda x: nn.functional.max_pool1d(x, 2))
    keys = [key_of(Graph(module, (X,)), (X,), "") for module in (pool, pool, other)]
    assert keys[0] == keys[1] != keys[2]


def test_what_has_no_name_is_not_kept() -> None:
    class Odd:
        pass

    graph = torch.fx.symbolic_trace(lambda x: x + 1)
    next(iter(graph.graph.find_nodes(op="call_function", target=__import__("operator").add))).args = (Odd(),)
    with pytest.raises(Unkeyed):
        key_of(Graph(graph, (X,)), (X,), "")


def test_a_second_compilation_comes_from_the_disk(tmp_path: Path) -> None:
    model, options = nn.Linear(4, 2).eval(), {"cache": str(tmp_path)}
    captured(model, (X,), options=options)
    assert (stats().cache_hits, stats().cache_misses) == (0, 1)
    torch._dynamo.reset()
    captured(model, (X,), options=options)
    assert (stats().cache_hits, stats().cache_misses) == (1, 1)
    [program] = tmp_path.rglob("model.onnx")
    program.write_bytes(program.read_bytes()[:-20])
    torch._dynamo.reset()
    captured(model, (X,), options=options)
    assert (stats().cache_hits, stats().cache_misses) == (1, 2)


WORKER = """
import sys, torch
from optc.torch_backend import stats
torch.manual_seed(0)
model, x = torch.nn.Linear(4, 2).eval(), torch.ones(3, 4)
with torch.no_grad():
    assert torch.allclose(torch.compile(model, backend="optc")(x), model(x), atol=1e-5)
print(stats().cache_hits, stats().cache_misses, stats().fallbacks)
"""


def test_processes_share_the_cache(tmp_path: Path) -> None:
    """Two start at once, and a third finds what they made."""
    environment = {**os.environ, "OPTC_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WORKER]
    pair = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[0] for process in pair]
    assert all(text.split()[2] == "0" for text in texts), texts
    third = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert third.stdout.split() == ["1", "0", "0"]
    names = [path.name for path in (tmp_path / "torch_compile").iterdir()]
    assert len(names) == 1 and not names[0].startswith(".")
