"""Concat and Split undo each other only along the same axis, in order and into the same parts."""

from __future__ import annotations

import pytest
from simplifying import formula


def test_of_one_part() -> None:
    body = """(float[B,4] x) => (float[B,4] y) {
        c = Concat<axis=0>(x) s = Split<axis=1,num_outputs=1>(c) y = Relu(s) }"""
    assert formula(body) == "Relu(x)"


@pytest.mark.parametrize(
    ("parts", "axis", "gone"),
    [("a, b", 1, True), ("a, b", -1, True), ("b, a", 1, False), ("a, b", 0, False), ("a", 1, False)],
)
def test_concat_of_split(parts: str, axis: int, gone: bool) -> None:
    body = f"""(float[2,4] x) => (float[N,M] y) {{
        a, b = Split<axis=1,num_outputs=2>(x) c = Concat<axis={axis}>({parts}) y = Relu(c) }}"""
    assert (formula(body) == "Relu(x)") == gone


@pytest.mark.parametrize(("sizes", "gone"), [([1, 3], True), ([2, 2], False)])
def test_split_of_concat(sizes: list[int], gone: bool) -> None:
    body = """(float[B,1] p, float[B,3] q) => (float[B,M] y, float[B,N] z) {
        c = Concat<axis=-1>(p, q) a, b = Split<axis=1>(c, n) y = Relu(a) z = Relu(b) }"""
    assert (formula(body, constants={"n": sizes}) == "Relu(p); Relu(q)") == gone


def test_nested_concat() -> None:
    body = """(float[B,2] p, float[B,3] q) => (float[B,7] y) {
        c = Concat<axis=1>(p, q) y = Concat<axis=-1>(p, c) }"""
    assert formula(body) == "Concat{axis=-1}(p, p, q)"


@pytest.mark.parametrize(
    "body",
    [
        "(float[2,2] p) => (float[4,4] y) { c = Concat<axis=0>(p, p) y = Concat<axis=1>(c, c) }",
        "(float[2,2] p) => (float[6,2] y, float[4,2] c) { c = Concat<axis=0>(p, p) y = Concat<axis=0>(c, p)}",
    ],
)
def test_concat_of_another_axis_or_read_elsewhere_stays(body: str) -> None:
    assert formula(body).count("Concat") >= 3
