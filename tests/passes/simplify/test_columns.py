"""A packed product is narrowed to the columns that are read, in whatever order they are read."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import Outcome, parse, simplify

RNG = np.random.default_rng(3)
WIDTH = 12  # three parts of 2 heads of 2
FAR = np.iinfo(np.int64).max
SHAPES = {
    "parts": [0, 0, 3, 2, 2],  # how vision models pack them
    "heads": [0, 0, 2, 6],  # how others do: the parts of each head side by side
    "flat": [-1, 3, 2, 2],  # loses the leading axes
}


SPLIT = "q, k, v = Split<axis=2,num_outputs=3>(h)"


def run(nodes: str, outputs: str, *, product: str = "p = MatMul(x, w) h = Add(p, b)") -> Outcome:
    constants = {
        "w": RNG.normal(size=(4, WIDTH)).astype(np.float32),
        "b": RNG.normal(size=WIDTH).astype(np.float32),
        "zero": np.array(0),
        "two": np.array(2),
        "pair": np.array([2, 0]),
        "start": [8],
        "far": [FAR],
        "last": [-1],
        **SHAPES,
    }
    used = {name: array for name, array in constants.items() if name in f"{product} {nodes}"}
    body = f"(float[B,S,4] x) => ({outputs}) {{ {product} {nodes} }}"
    feeds = [{"x": RNG.normal(size=(2, 5, 4)).astype(np.float32)}]
    return simplify(parse(body, constants=used), feeds=feeds, rtol=1e-5)


def read_columns(outcome: Outcome) -> list[int]:
    """How many columns each product has left."""
    products = [node for node in outcome.model.graph if node.op_type in ("MatMul", "Gemm")]
    return sorted(int(node.inputs[1].const_value.shape[1]) for node in products)


@pytest.mark.parametrize(
    "nodes",
    [
        "q, k, v = Split<axis=-1,num_outputs=3>(h) y = Relu(v)",
        "v = Slice(h, start, far, last) y = Relu(v)",
    ],
)
@pytest.mark.parametrize("product", ["h = MatMul(x, w)", "p = MatMul(x, w) h = Add(p, b)"])
def test_one_part(nodes: str, product: str) -> None:
    outcome = run(nodes, "float[B,S,4] y", product=product)
    assert read_columns(outcome) == [4]
    assert "Split" not in outcome.formula and "Slice" not in outcome.formula


def test_two_of_three_parts() -> None:
    outcome = run(
        "q, k, v = Split<axis=2,num_outputs=3>(h) y = Relu(q) z = Neg(v)", "float[B,S,4] y, float[B,S,4] z"
    )
    assert read_columns(outcome) == [4, 4]


def test_a_part_that_is_an_output() -> None:
    outcome = run("q, k, y = Split<axis=2,num_outputs=3>(h)", "float[B,S,4] y")
    assert read_columns(outcome) == [4]


def test_parts_before_heads() -> None:
    """Reshape to [B, S, 3, heads, width], move the parts first, take one."""
    nodes = "r = Reshape(h, parts) t = Transpose<perm=[2,0,3,1,4]>(r) v = Gather<axis=0>(t, two) y = Relu(v)"
    outcome = run(nodes, "float[B,2,S,2] y")
    assert read_columns(outcome) == [4]
    assert "Gather" not in outcome.formula


def test_several_indices() -> None:
    nodes = "r = Reshape(h, parts) v = Gather<axis=2>(r, pair) y = Relu(v)"
    assert read_columns(run(nodes, "float[B,S,2,2,2] y")) == [8]


def test_heads_before_parts() -> None:
    """The columns of a part do not lie side by side."""
    nodes = """r = Reshape(h, heads) q, k, v = Split<axis=3,num_outputs=3>(r)
               y = Transpose<perm=[0,2,1,3]>(v)"""
    outcome = run(nodes, "float[B,2,S,2] y")
    assert read_columns(outcome) == [4]


def gemm(body: str) -> Outcome:
    constants = {"w": RNG.normal(size=(6, 4)).astype(np.float32), "b": RNG.normal(size=6).astype(np.float32)}
    feeds = [{"x": RNG.normal(size=(6, 4)).astype(np.float32)}]
    product = "h = Gemm<transB=1,alpha=0.5,beta=2.0>(x, w, b)"
    return simplify(parse(body % product, constants=constants), feeds=feeds, rtol=1e-5)


def test_gemm() -> None:
    body = "(float[N,4] x) => (float[N,2] y) { %s q, k, v = Split<axis=1,num_outputs=3>(h) y = Relu(k) }"
    assert read_columns(gemm(body)) == [2]


def test_rows_that_get_their_axes_back() -> None:
    """How the exporter writes a linear map as Gemm: [batch * tokens, columns] in between."""
    body = """(float[6,4] x) => (float[2,3,2] y) {
        %s s = Constant<value_ints=[2,-1,6]>() r = Reshape<allowzero=1>(h, s)
        q, k, v = Split<axis=2,num_outputs=3>(r) y = Relu(v) }"""
    assert read_columns(gemm(body)) == [2]


def test_axes_that_come_from_elsewhere() -> None:
    constants = {"w": RNG.normal(size=(4, 6)).astype(np.float32), "b": np.zeros(6, np.float32), "six": [6]}
    body = """(float[B,S,4] z, float[N,4] x) => (float[B,S,2] y) {
        h = Gemm(x, w, b) d = Shape<end=2>(z) s = Concat<axis=0>(d, six) r = Reshape(h, s)
        q, k, v = Split<axis=2,num_outputs=3>(r) y = Relu(v) }"""
    shapes = {"z": (2, 5, 4), "x": (10, 4)}
    feeds = [{name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}]
    outcome = simplify(parse(body, constants=constants), feeds=feeds, rtol=1e-5)
    assert read_columns(outcome) == [2]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ("q, k, v = Split<axis=2,num_outputs=3>(h) y = Sum(q, k, v)", "float[B,S,4] y"),
        (
            "q, k, v = Split<axis=2,num_outputs=3>(h) y = Relu(v) z = Neg(h)",
            "float[B,S,4] y, float[B,S,12] z",
        ),
        ("y = Gather<axis=1>(h, zero)", "float[B,12] y"),
        ("r = Reshape(h, flat) y = Gather<axis=1>(r, zero)", "float[N,2,2] y"),
        ("v = Slice(h, start, far, last) y = Relu(v) z = Relu(p)", "float[B,S,4] y, float[B,S,12] z"),
    ],
    ids=["all parts", "another reader", "a leading axis", "leading axes merged", "reader before the bias"],
)
def test_products_that_are_read_whole_stay(nodes: str, outputs: str) -> None:
    assert read_columns(run(nodes, outputs)) == [WIDTH]
