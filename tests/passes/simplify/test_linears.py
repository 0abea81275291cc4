"""Two linear maps become one when that is cheaper and nobody looks between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simplifying import Outcome, parse, simplify

RNG = np.random.default_rng(2)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def run(body: str, **constants: Any) -> Outcome:
    feeds = [{"x": floats(2, 3, 4)}] if "float[B,S,4]" in body else [{"x": floats(3, 4)}]
    return simplify(parse(body, constants=constants), feeds=feeds, rtol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("h = MatMul(x, p) y = MatMul(h, q)", ["MatMul"]),
        ("i = MatMul(x, p) h = Add(i, b) y = MatMul(h, q)", ["MatMul", "Add"]),
        ("i = MatMul(x, p) h = Add(i, b) j = MatMul(h, q) y = Add(c, j)", ["MatMul", "Add"]),
        ("h = MatMul(x, p) j = MatMul(h, q) y = Add(j, c)", ["MatMul", "Add"]),
    ],
)
def test_products(nodes: str, expected: list[str]) -> None:
    given = {"p": floats(4, 16), "q": floats(16, 5), "b": floats(16), "c": floats(5)}
    outcome = run(f"(float[B,S,4] x) => (float[B,S,5] y) {{ {nodes} }}", **given)
    assert [node.op_type for node in outcome.model.graph] == expected


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemms(transposed: int) -> None:
    body = f"""(float[3,4] x) => (float[3,5] y) {{
        h = Gemm<alpha=0.5>(x, p, b) y = Gemm<transB={transposed},beta=3.0>(h, q, c) }}"""
    given = {"p": floats(4, 16), "b": floats(16), "c": floats(5)}
    outcome = run(body, q=floats(5, 16) if transposed else floats(16, 5), **given)
    assert [node.op_type for node in outcome.model.graph] == ["Gemm"]


@pytest.mark.parametrize(("width", "nodes"), [(2, 2), (3, 1)])
def test_a_bottleneck_stays_where_it_saves_work(width: int, nodes: int) -> None:
    """4 x 2 and 2 x 5 are 18 products, 4 x 3 and 3 x 5 are 27, 4 x 5 are 20."""
    outcome = run(
        "(float[3,4] x) => (float[3,5] y) { h = MatMul(x, p) y = MatMul(h, q) }",
        p=floats(4, width),
        q=floats(width, 5),
    )
    assert outcome.model.graph.num_nodes() == nodes
    assert outcome.reasons == ["two linear maps kept: as one they would be more work"][: nodes - 1]


@pytest.mark.parametrize(
    ("nodes", "out"),
    [
        ("h = MatMul(x, p) z = Relu(h) y = MatMul(h, q)", ", float[3,16] z"),
        ("h = MatMul(x, p) y = MatMul(h, q)", ", float[3,16] h"),
        ("i = MatMul(x, p) h = Add(i, b) z = Relu(i) y = MatMul(h, q)", ", float[3,16] z"),
    ],
)
def test_another_reader(nodes: str, out: str) -> None:
    outcome = run(
        f"(float[3,4] x) => (float[3,5] y{out}) {{ {nodes} }}", p=floats(4, 16), q=floats(16, 5), b=floats(16)
    )
    assert sum(node.op_type == "MatMul" for node in outcome.model.graph) == 2
    assert "two linear maps kept: what is between them has another reader" in outcome.reasons


def test_a_nonlinearity_between_stays() -> None:
    body = "(float[3,4] x) => (float[3,5] y) { i = MatMul(x, p) h = Relu(i) y = MatMul(h, q) }"
    assert run(body, p=floats(4, 16), q=floats(16, 5)).model.graph.num_nodes() == 3


def test_a_bias_that_differs_by_row_stays() -> None:
    body = "(float[3,4] x) => (float[3,5] y) { i = MatMul(x, p) h = Add(i, b) y = MatMul(h, q) }"
    assert run(body, p=floats(4, 16), q=floats(16, 5), b=floats(3, 16)).model.graph.num_nodes() == 3


def test_a_residual_after_the_second_is_no_bias() -> None:
    body = "(float[3,4] x) => (float[3,4] y) { h = MatMul(x, p) j = MatMul(h, q) y = Add(j, x) }"
    outcome = run(body, p=floats(4, 16), q=floats(16, 4))
    assert [node.op_type for node in outcome.model.graph] == ["MatMul", "Add"]
