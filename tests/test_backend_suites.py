"""Every conformance model that plain ONNX Runtime gets right must compile at -O1 and keep its results."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from backend_suite import KINDS, Case, iter_cases, mismatch, plain_ort

import optc

CHUNKS = 24


@lru_cache
def _cases(kind: str) -> list[Case]:
    return list(iter_cases([kind]))


def _failure(case: Case, folder: Path) -> str | None:
    expected = plain_ort(case)
    if expected is None:
        return None  # not a model that ONNX Runtime itself runs and gets right
    artifact = optc.compile(str(case.path(folder)), level=1, gate=False)
    undone = [(p["name"], p["reverted"]) for p in artifact.report["passes"] if p["reverted"]]
    if undone:
        return f"{case.name}: undone {undone}"
    names = [value.name for value in artifact.model.graph.outputs]
    for (feeds, _), outputs in zip(case.data_sets, expected, strict=True):
        results = artifact.run(feeds)
        for name, left in zip(names, outputs, strict=True):
            if difference := mismatch(left, results[str(name)], case.rtol, case.atol):
                return f"{case.name}: {name}: {difference}"
    return None


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_node_suite(chunk: int, tmp_path: Path) -> None:
    failures = [found for case in _cases("node")[chunk::CHUNKS] if (found := _failure(case, tmp_path))]
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "node"])
def test_other_suites(kind: str, tmp_path: Path) -> None:
    failures = [found for case in _cases(kind) if (found := _failure(case, tmp_path))]
    assert not failures, "\n".join(failures)


def test_the_suites_are_there() -> None:
    assert {kind: len(_cases(kind)) > 3 for kind in KINDS} == dict.fromkeys(KINDS, True)
