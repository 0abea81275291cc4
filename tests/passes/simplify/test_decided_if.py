"""An If with a constant condition becomes its branch; names stay unique, captured values stay right."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import parse, simplify

BODY = """(float[B] x) => (float[B] y) {
    e = Exp(x)
    a = If(c) <then_branch = t () => (float[B] p) { k = Neg(e) p = Abs(k) },
               else_branch = f () => (float[B] p2) { k2 = Relu(x) p2 = Sqrt(k2) }>
    b = If(c) <then_branch = t2 () => (float[B] p3) { p3 = Sin(a) },
               else_branch = f2 () => (float[B] p4) { p4 = Cos(a) }>
    y = Neg(b) }"""


@pytest.mark.parametrize(
    ("flag", "expected"), [(True, "Neg(Sin(Abs(Neg(Exp(x)))))"), (False, "Neg(Cos(Sqrt(Relu(x))))")]
)
def test_decided(flag: bool, expected: str) -> None:
    assert simplify(parse(BODY, constants={"c": np.bool_(flag)})).formula == expected


def test_undecided_stays() -> None:
    body = BODY.replace("(float[B] x) =>", "(float[B] x, bool c) =>")
    model = simplify(parse(body)).model
    assert sum(node.op_type == "If" for node in model.graph) == 2


def test_branch_that_is_an_outer_constant() -> None:
    body = """(float[2] x) => (float[2] y) {
        a = If(c) <then_branch = t () => (float[2] p) { p = Identity(w) },
                   else_branch = f () => (float[2] q) { q = Relu(x) }>
        y = Add(x, a) }"""
    model = parse(body, constants={"c": np.bool_(True), "w": np.float32([1, 2])})
    assert simplify(model).formula == "Add(x, [1.0, 2.0])"
