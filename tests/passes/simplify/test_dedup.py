"""Equal weights are kept once, equal meaning every bit."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import parse, simplify

BODY = "(float[B,4] x) => (float[B,4] y) { a = MatMul(x, p) n = Relu(a) y = MatMul(n, q) }"
W = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)


def left(p: np.ndarray, q: np.ndarray) -> int:
    return len(simplify(parse(BODY, constants={"p": p, "q": q})).model.graph.initializers)


def test_equal() -> None:
    assert left(W, W.copy()) == 1


def changed(index: tuple[int, int], number: float) -> np.ndarray:
    other = W.copy()
    other[index] = number
    return other


@pytest.mark.parametrize("other", [changed((1, 2), 0.5), W.T.copy()])
def test_unequal(other: np.ndarray) -> None:
    assert left(W, other) == 2


def test_signs_of_zero_differ() -> None:
    assert left(changed((0, 0), 0.0), changed((0, 0), -0.0)) == 2


def test_nan_equals_itself() -> None:
    assert left(changed((0, 0), np.nan), changed((0, 0), np.nan)) == 1


def test_difference_between_the_samples_is_seen() -> None:
    body = "(float[B,512] x) => (float[B,512] y) { a = Add(x, p) n = Relu(a) y = Add(n, q) }"
    p = np.arange(512, dtype=np.float32)
    for index in range(0, 512, 37):
        q = p.copy()
        q[index] += 0.5
        outcome = simplify(parse(body, constants={"p": p, "q": q}), sizes=({"B": 1},))
        assert len(outcome.model.graph.initializers) == 2


def test_default_of_an_input_is_not_merged() -> None:
    body = "(float[B,2] x, float[2] p = {1, 2}) => (float[B,2] y) { a = Mul(x, p) y = Add(a, q) }"
    model = parse(body, constants={"q": np.float32([1, 2])})
    x = np.ones((3, 2), np.float32)
    outcome = simplify(model, feeds=[{"x": x}, {"x": x, "p": np.float32([5, 6])}])
    assert outcome.formula == "Add(Mul(x, p), [1.0, 2.0])"
