"""Arithmetic is expanded exactly, and what is not a polynomial is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from fusing import parse

from optc.passes.fuse._polynomial import Expansion, Polynomial, gated

CONSTANTS = {"two": 2.0, "three": 3.0, "half": 0.5, "zero": 0.0, "root": 0.5}


def _expanded(lines: str) -> Polynomial | None:
    constants = {name: np.float32(value) for name, value in CONSTANTS.items() if name in lines}
    model = parse(f"(float[B,4] x, float[B,4] t) => (float[B,4] y) {{ {lines} }}", constants=constants)
    return Expansion(list(model.graph.inputs)).of(model.graph.outputs[0])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("y = Neg(x)", {(1, 0): -1.0}),
        ("y = Sub(x, t)", {(1, 0): 1.0, (0, 1): -1.0}),
        ("y = Sub(three, x)", {(0, 0): 3.0, (1, 0): -1.0}),
        ("y = Div(x, two)", {(1, 0): 0.5}),
        ("a = Add(x, two) y = Mul(a, a)", {(2, 0): 1.0, (1, 0): 4.0, (0, 0): 4.0}),
        ("y = Pow(x, three)", {(3, 0): 1.0}),
        ("a = Pow(x, three) y = Mul(a, t)", {(3, 1): 1.0}),
        ("a = Add(x, t) b = Mul(a, half) y = Add(b, x)", {(1, 0): 1.5, (0, 1): 0.5}),
    ],
)
def test_expanded(lines: str, expected: Polynomial) -> None:
    assert _expanded(lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        "y = Div(two, x)",
        "a = Add(x, two) y = Div(t, a)",
        "y = Div(x, zero)",
        "y = Pow(x, root)",
        "y = Pow(two, x)",
        "y = Relu(x)",
        "a = Pow(x, three) y = Mul(a, a)",
    ],
)
def test_no_polynomial(lines: str) -> None:
    assert _expanded(lines) is None


def _gates(lines: str, **constants: np.ndarray) -> int:
    model = parse(f"(float[B,4] x) => (float[B,4] y) {{ {lines} }}", constants=constants)
    node = next(node for node in model.graph if node.op_type == "Sigmoid")
    return len(list(gated(node)))


def test_gate_of_a_shifted_argument_is_none() -> None:
    shifted = "a = Add(x, c) s = Sigmoid(a) y = Mul(x, s)"
    assert _gates(shifted, c=np.float32(1)) == 0
    assert _gates(shifted.replace("Add", "Mul"), c=np.float32(1)) == 1


@pytest.mark.parametrize(("rank", "found"), [(0, 1), (2, 1), (3, 0)])
def test_constant_may_not_raise_the_rank(rank: int, found: int) -> None:
    lines = "a = Mul(x, c) s = Sigmoid(a) b = Mul(x, s) y = Reshape(b, flat)"
    assert _gates(lines, c=np.full([1] * rank, 2, np.float32), flat=np.array([-1, 4])) == found


def test_long_chains_are_given_up_in_linear_time() -> None:
    chain = " ".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(60))
    assert _gates(f"v0 = Identity(x) {chain} s = Sigmoid(v60) y = Mul(v0, s)") == 0
