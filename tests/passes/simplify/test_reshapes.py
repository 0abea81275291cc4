"""Reshape, Flatten, Squeeze, Unsqueeze: what vanishes, what gets a constant shape, and what must not."""

from __future__ import annotations

import numpy as np
import pytest
from simplifying import formula, parse, simplify

SHAPE_OF = "b = Shape<start=0,end=1>(x) s = Shape<start=1,end=2>(x)"


def test_same_shape() -> None:
    body = f"""(float[B,S] x) => (float[B,S] y) {{
        {SHAPE_OF} c = Concat<axis=0>(b, s) r = Reshape(x, c) y = Relu(r) }}"""
    assert formula(body) == "Relu(x)"


def test_swapped_dims_stay() -> None:
    body = f"""(float[B,S] x) => (float[S,B] y) {{
        {SHAPE_OF} c = Concat<axis=0>(s, b) r = Reshape(x, c) y = Relu(r) }}"""
    assert "Concat" in formula(body)


def test_copied_dims_become_zeros() -> None:
    """Heads split off the last axis: all dims are known, copied or numbers."""
    body = f"""(float[B,S,8] x) => (float[B,S,2,4] y) {{
        {SHAPE_OF} c = Concat<axis=0>(b, s, h, d) y = Reshape<allowzero=1>(x, c) }}"""
    assert formula(body, constants={"h": [2], "d": [4]}) == "Reshape(x, [0, 0, 2, 4])"


def test_inferred_dim_is_spelled_out_when_known() -> None:
    """With -1 the runtime would refuse an empty batch that the model accepts otherwise."""
    body = f"""(float[B,S,8] x) => (float[B,S,2,4] y) {{
        {SHAPE_OF} c = Concat<axis=0>(b, s, h, d) y = Reshape(x, c) }}"""
    empty = ({"B": 2, "S": 3}, {"B": 0, "S": 3})
    model = parse(body, constants={"h": [-1], "d": [4]})
    outcome = simplify(model, sizes=empty[:1])
    assert outcome.formula == "Reshape(x, [0, 0, 2, 4])"


def test_empty_batch_still_works() -> None:
    body = f"""(float[B,S,8] x) => (float[B,S,2,4] y) {{
        {SHAPE_OF} c = Concat<axis=0>(b, s, h, d) y = Reshape<allowzero=1>(x, c) }}"""
    simplify(parse(body, constants={"h": [2], "d": [4]}), sizes=({"B": 0, "S": 3}, {"B": 2, "S": 0}))


def test_product_of_dims_is_inferred() -> None:
    body = f"""(float[B,S,8] x) => (float[N,8] y) {{
        {SHAPE_OF} m = Mul(b, s) c = Concat<axis=0>(m, d) y = Reshape(x, c) }}"""
    assert formula(body, constants={"d": [8]}) == "Reshape(x, [-1, 8])"


def test_product_beside_a_symbol_is_not_inferred() -> None:
    """[B, S*8] cannot become [0, -1]: an empty batch works in the model and would not with -1."""
    body = f"""(float[B,S,8] x) => (float[B,N] y) {{
        {SHAPE_OF} m = Mul(s, d) c = Concat<axis=0>(b, m) y = Reshape(x, c) }}"""
    outcome = simplify(parse(body, constants={"d": [8]}), sizes=({"B": 2, "S": 3}, {"B": 0, "S": 3}))
    assert "Concat" in outcome.formula
    assert any("more than one dim is not known" in reason for reason in outcome.reasons)


def test_zero_that_means_zero_stays() -> None:
    body = """(float[B,0] x) => (float[0,S] y) {
        s = Shape<start=0,end=1>(x) c = Concat<axis=0>(z, s) y = Reshape<allowzero=1>(x, c) }"""
    feeds = [{"x": np.zeros((3, 0), np.float32)}]
    assert "allowzero=1" in formula(body, constants={"z": [0]}, feeds=feeds)


def test_chain_keeps_the_last() -> None:
    body = "(float[B,2,3] x) => (float[B,6] y) { a = Reshape(x, p) y = Reshape(a, q) }"
    assert formula(body, constants={"p": [-1, 3], "q": [-1, 6]}) == "Reshape(x, [-1, 6])"


def test_chain_whose_zero_copies_a_dim_of_the_middle_stays() -> None:
    body = "(float[B,2,3] x) => (float[N,3,1] y) { a = Reshape(x, p) y = Reshape(a, q) }"
    assert (
        formula(body, constants={"p": [-1, 3], "q": [0, 3, 1]}) == "Reshape(Reshape(x, [-1, 3]), [0, 3, 1])"
    )


def test_chain_that_ends_where_it_began() -> None:
    body = "(float[B,2,3] x) => (float[B,2,3] y) { a = Flatten<axis=1>(x) b = Reshape(a, q) y = Relu(b) }"
    assert formula(body, constants={"q": [-1, 2, 3]}) == "Relu(x)"


@pytest.mark.parametrize(("first", "second"), [("Unsqueeze", "Squeeze"), ("Squeeze", "Unsqueeze")])
def test_inverse_pair_of_unknown_rank(first: str, second: str) -> None:
    """The axes alone decide: a Loop hides the shapes."""
    body = f"(float[B,1,S] x) => (float[B,1,S] y) {{ a = {first}(x, at) b = {second}(a, at) y = Relu(b) }}"
    assert formula(body, constants={"at": [1]}) == "Relu(x)"


def test_squeeze_of_other_axes_stays() -> None:
    body = "(float[B,1,S] x) => (float[B,S,1] y) { a = Unsqueeze(x, p) y = Squeeze(a, q) }"
    assert formula(body, constants={"p": [3], "q": [1]}) == "Squeeze(Unsqueeze(x, [3]), [1])"


def test_unsqueezes_join() -> None:
    body = "(float[B,S] x) => (float[B,1,1,S] y) { a = Unsqueeze(x, p) y = Unsqueeze(a, q) }"
    assert formula(body, constants={"p": [-2], "q": [1]}) == "Unsqueeze(x, [1, 2])"
