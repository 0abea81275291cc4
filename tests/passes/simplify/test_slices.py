"""Slices of everything and pads of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import formula

FAR = np.iinfo(np.int64).max


@pytest.mark.parametrize(
    ("start", "end", "axis", "step", "gone"),
    [
        (0, FAR, 1, 1, True),
        (0, 4, 1, 1, True),
        (0, 9, -1, 1, True),
        (0, 3, 1, 1, False),
        (1, FAR, 1, 1, False),
        (0, FAR, 1, 2, False),
        (0, -1, 1, 1, False),
        (0, 4, 0, 1, False),  # a symbolic axis
    ],
)
def test_constant_bounds(start: int, end: int, axis: int, step: int, gone: bool) -> None:
    out = "float[B,4]" if gone else "float[N,M]"
    body = f"(float[B,4] x) => ({out} y) {{ s = Slice(x, a, b, c, d) y = Relu(s) }}"
    constants = {"a": [start], "b": [end], "c": [axis], "d": [step]}
    assert (formula(body, constants=constants, sizes=({"B": 6}, {"B": 2})) == "Relu(x)") == gone


def test_up_to_its_own_dim() -> None:
    body = (
        "(float[B,S] x) => (float[B,S] y) { e = Shape<start=1,end=2>(x) s = Slice(x, z, e, one) y = Relu(s) }"
    )
    assert formula(body, constants={"z": [0], "one": [1]}) == "Relu(x)"
    other = body.replace("start=1,end=2", "start=0,end=1").replace("(float[B,S] y)", "(float[B,M] y)")
    assert "Slice" in formula(other, constants={"z": [0], "one": [1]})


def test_padding() -> None:
    body = "(float[B,4] x) => (float[B,M] y) { p = Pad(x, n) y = Relu(p) }"
    assert formula(body, constants={"n": [0, 0, 0, 0]}) == "Relu(x)"
    assert "Pad" in formula(body, constants={"n": [0, 0, 0, 1]})
