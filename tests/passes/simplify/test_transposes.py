"""Transposes compose, vanish, and are found between reshapes."""

from __future__ import annotations

import pytest
from simplifying import formula, parse, simplify


def test_moves_nothing() -> None:
    assert (
        formula("(float[B,3] x) => (float[B,3] y) { t = Transpose<perm=[0,1]>(x) y = Relu(t) }") == "Relu(x)"
    )


def test_inverse_pair() -> None:
    body = """(float[B,S,3] x) => (float[B,S,3] y) {
        a = Transpose<perm=[1,2,0]>(x) b = Transpose<perm=[2,0,1]>(a) y = Relu(b) }"""
    assert formula(body) == "Relu(x)"


def test_default_permutation_reverses() -> None:
    body = "(float[B,S,3] x) => (float[B,S,3] y) { a = Transpose(x) b = Transpose(a) y = Relu(b) }"
    assert formula(body) == "Relu(x)"


def test_chain_composes_in_the_right_order() -> None:
    body = """(float[B,S,3] x) => (float[B,3,S] y) {
        a = Transpose<perm=[1,2,0]>(x) y = Transpose<perm=[2,1,0]>(a) }"""
    assert formula(body) == "Transpose{perm=[0, 2, 1]}(x)"


def test_chain_with_another_reader_stays() -> None:
    body = """(float[B,S,3] x) => (float[S,3,B] r, float[B,3,S] y) {
        a = Transpose<perm=[1,2,0]>(x) r = Relu(a) y = Transpose<perm=[2,1,0]>(a) }"""
    assert "Transpose{perm=[2, 1, 0]}(Transpose" in formula(body)


MERGED = """(float[B,12,S,32] x) => (float[B,12,32,S] y) {{
    m = Reshape(x, three) t = Transpose<perm=[0,2,1]>(m) r = Reshape(t, {last}) y = Relu(r) }}"""
PARTS = "s = Shape(x) b = Shape<start=0,end=1>(x) q = Shape<start=2,end=3>(x)"


def _exported(last: str = "four", mid: str = "minus, q, d") -> str:
    return f"""(float[B,12,S,32] x) => (float[B,12,32,S] y) {{
        {PARTS} three = Concat<axis=0>({mid}) m = Reshape(x, three) t = Transpose<perm=[0,2,1]>(m)
        four = Concat<axis=0>(b, n, d, q) four_swapped = Concat<axis=0>(b, d, n, q)
        r = Reshape(t, {last}) y = Identity(r) }}"""


CONSTANTS = {"minus": [-1], "d": [32], "n": [12]}


def test_between_reshapes_of_symbolic_shape() -> None:
    """What the dynamo exporter writes for the transposed keys of attention."""
    assert formula(_exported(), constants=CONSTANTS) == "Transpose{perm=[0, 1, 3, 2]}(x)"


def test_between_reshapes_that_do_not_restore_the_axes() -> None:
    body = _exported("four_swapped").replace("float[B,12,32,S] y", "float[B,32,12,S] y")
    assert formula(body, constants=CONSTANTS) != "Transpose{perm=[0, 1, 3, 2]}(x)"


@pytest.mark.parametrize("perm", ["0,2,1", "2,0,1", "1,0,2"])
def test_between_reshapes_of_numbers(perm: str) -> None:
    """Merging axes, permuting the merged ones and splitting them again; the numbers decide."""
    order = [int(axis) for axis in perm.split(",")]
    groups, dims = [[0, 1], [2], [3]], [2, 3, 4, 5]
    axes = [axis for group in order for axis in groups[group]]
    body = f"""(float[2,3,4,5] x) => (float[{",".join(str(dims[a]) for a in axes)}] y) {{
        m = Reshape(x, merged) t = Transpose<perm=[{perm}]>(m) y = Reshape(t, split) }}"""
    constants = {"merged": [6, 4, 5], "split": [dims[a] for a in axes]}
    assert formula(body, constants=constants) == f"Transpose{{perm={axes}}}(x)"


def test_reshape_that_does_not_merge_whole_axes_stays() -> None:
    body = """(float[4,6] x) => (float[6,4] y) {
        m = Reshape(x, a) t = Transpose<perm=[1,0]>(m) y = Reshape(t, b) }"""
    constants = {"a": [8, 3], "b": [6, 4]}
    outcome = simplify(parse(body, constants=constants))
    assert outcome.formula == "Reshape(Transpose{perm=[1, 0]}(Reshape(x, [8, 3])), [6, 4])"
