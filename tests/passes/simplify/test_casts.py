"""Casts go only where no value can change on the way."""

from __future__ import annotations

import pytest
from simplifying import formula


def test_to_its_own_type() -> None:
    assert formula("(float[B] x) => (float[B] y) { c = Cast<to=1>(x) y = Relu(c) }") == "Relu(x)"


def test_cast_like_its_own_type() -> None:
    assert formula("(float[B] x, float[S] z) => (float[B] y) { c = CastLike(x, z) y = Relu(c) }") == "Relu(x)"


@pytest.mark.parametrize(
    ("given", "middle", "end", "expected"),
    [
        ("float", 11, 1, "Identity(x)"),  # float, double, float
        ("int32", 7, 6, "Identity(x)"),
        ("int32", 7, 1, "Cast{to=1}(x)"),
        ("bool", 7, 9, "Identity(x)"),
        ("int32", 11, 6, "Identity(x)"),  # a double holds every int32
        ("double", 1, 11, "Cast{to=11}(Cast{to=1}(x))"),  # rounds
        ("int64", 1, 7, "Cast{to=7}(Cast{to=1}(x))"),
        ("int64", 11, 7, "Cast{to=7}(Cast{to=11}(x))"),
        ("float", 7, 1, "Cast{to=1}(Cast{to=7}(x))"),  # truncates
        ("int32", 9, 6, "Cast{to=6}(Cast{to=9}(x))"),  # not zero becomes 1
        ("int8", 1, 2, "Cast{to=2}(Cast{to=1}(x))"),  # a negative float to uint8 is not defined
    ],
)
def test_chains(given: str, middle: int, end: int, expected: str) -> None:
    names = {1: "float", 2: "uint8", 6: "int32", 7: "int64", 9: "bool", 11: "double"}
    body = f"({given}[4] x) => ({names[end]}[4] y) {{ c = Cast<to={middle}>(x) y = Cast<to={end}>(c) }}"
    assert formula(body) == expected
