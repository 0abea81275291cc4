"""Rows come back as they went in, from memory and from the file, and memory stays bounded."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from optc.spool import Spool

ROWS = [
    {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": None},
    {"x": np.arange(6).reshape(3, 2).T, "n": [np.ones(2)]},
    {"x": np.array(3, np.int64), "n": np.array(["a", "b"], object)},
    {"x": np.ones((2, 2), ml_dtypes.bfloat16), "n": np.zeros((0, 4))},
]


@pytest.mark.parametrize("limit", [0, 30, 1 << 20])
def test_rows_come_back(limit: int) -> None:
    spool = Spool(ROWS, limit=limit)
    for _ in range(2):
        assert len(spool) == 4
        for found, expected in zip(spool, ROWS, strict=True):
            assert found["x"].dtype == expected["x"].dtype
            assert np.array_equal(found["x"], expected["x"])
        assert spool[0]["n"] is None and spool[2]["n"].tolist() == ["a", "b"]
        assert spool[3]["n"].shape == (0, 4)
    assert [row["x"].shape for row in spool[1:3]] == [(2, 3), ()]


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_a_buffer_that_is_used_again_does_not_matter(limit: int) -> None:
    buffer, spool = np.zeros(3), Spool(limit=limit)
    for number in range(3):
        buffer[:] = number
        spool.append({"x": buffer})
    assert [row["x"][0] for row in spool] == [0, 1, 2]


def test_memory_is_bounded() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        spool = Spool(({"x": np.ones(25_000)} for _ in range(count)), limit=1 << 20)
        assert sum(row["x"].sum() for row in spool) == 25_000 * count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(200) < peak(20) + 200_000


def test_hundreds_of_samples_take_hardly_more_memory_than_a_few() -> None:
    def held(count: int) -> int:
        tracemalloc.start()
        spool = Spool({"x": np.ones(25_000)} for _ in range(count))
        found = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(spool) == count
        return found

    assert held(512) < held(16) + (1 << 20)


def test_no_array_is_held_by_itself() -> None:
    """Hundreds of small blocks that stay would keep the memory between them from being given back."""
    arrays = [np.full(1000, i) for i in range(200)]
    tracemalloc.start()
    spool = Spool({"x": array} for array in arrays)
    blocks = [trace.size for trace in tracemalloc.take_snapshot().traces]
    tracemalloc.stop()
    assert sum(blocks) > 200 * 8000
    assert sum(size >= 8000 for size in blocks) == 1
    assert spool[199]["x"][0] == 199
