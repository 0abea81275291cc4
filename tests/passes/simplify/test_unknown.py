"""Where the rank is not known, or an operand is computed at run time, rewrites that rely on it stay away."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from simplifying import parse, simplify

F = np.float32
STAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "transpose": ("t = Transpose(x) y = Relu(t)", {}),
    "transposes": ("s = Transpose(x) t = Transpose<perm=[1,0]>(s) y = Relu(t)", {}),
    "reshape": ("t = Reshape(x, i) y = Relu(t)", {}),
    "reshapes": ("s = Reshape(x, i) t = Reshape(s, j) y = Relu(t)", {}),
    "reshape copies": ("s = Flatten(x) t = Reshape(s, c) y = Relu(t)", {"c": [0, -1]}),
    "reshape round transpose": (
        "s = Reshape(x, c) t = Transpose<perm=[1,0]>(s) u = Reshape(t, c) y = Relu(u)",
        {"c": [2, -1]},
    ),
    "flatten": ("t = Flatten(x) y = Relu(t)", {}),
    "squeeze of unsqueeze": ("s = Unsqueeze(x, i) t = Squeeze(s, i2) y = Relu(t)", {"i2": [0]}),
    "squeeze of everything": ("s = Unsqueeze(x, i2) t = Squeeze(s) y = Relu(t)", {"i2": [0]}),
    "unsqueezes": ("s = Unsqueeze(x, p) t = Unsqueeze(s, q) y = Relu(t)", {"p": [0], "q": [-1]}),
    "slice by inputs": ("t = Slice(x, i, j) y = Relu(t)", {}),
    "slice from an input": ("t = Slice(x, i, e) y = Relu(t)", {"e": [2**40]}),
    "slice to an input": ("t = Slice(x, z, j) y = Relu(t)", {"z": [0]}),
    "slice of unknown axes": ("t = Slice(x, z, e, i) y = Relu(t)", {"z": [0], "e": [3]}),
    "slice of unknown steps": ("t = Slice(x, z, e, z, i) y = Relu(t)", {"z": [0], "e": [2**40]}),
    "pad": ("t = Pad(x, i) y = Relu(t)", {}),
    "tile": ("t = Tile(x, i) y = Relu(t)", {}),
    "expand": ("t = Expand(x, i) y = Relu(t)", {}),
    "expand before a sum": ("t = Expand(x, i) y = Add(x, t)", {}),
    "vector of ones": ("t = Mul(x, c) y = Relu(t)", {"c": np.ones(3, F)}),
    "concat of split": ("a, b = Split<axis=1,num_outputs=2>(x) t = Concat<axis=-1>(a, b) y = Relu(t)", {}),
    "split of concat": ("t = Concat<axis=1>(x, x) a, b = Split<axis=1>(t, i) u = Sub(a, b) y = Relu(u)", {}),
    "concats": ("t = Concat<axis=0>(x, x) y = Concat<axis=-1>(x, t)", {}),
    "where": ("t = Where(c, x, x2) y = Relu(t)", {"c": np.bool_(True), "x2": np.ones(3, F)}),
    "gather of a count": ("t = Gather(x, c) y = Relu(t)", {"c": np.arange(3)}),
    "gather by a range": (
        "r = Range(k, m, n) t = Gather(x, r) y = Relu(t)",
        {"k": np.int64(0), "n": np.int64(1)},
    ),
    "gather nd": ("t = GatherND(x, c) y = Relu(t)", {"c": np.arange(3).reshape(3, 1)}),
    "gather nd by input": ("t = GatherND(x, i) y = Relu(t)", {}),
    "batch norm": (
        "c = MatMul(x, w) y = BatchNormalization(c, v, v, v, v)",
        {"w": np.eye(3, dtype=F), "v": np.ones(3, F)},
    ),
    "linear of inputs": ("c = MatMul(x, w) y = MatMul(c, x)", {"w": np.ones((3, 3), F)}),
    "linear and added input": ("c = MatMul(x, w) d = Add(c, x) y = MatMul(d, w)", {"w": np.ones((3, 3), F)}),
    "dropout by an input": ("h = Squeeze(g) t, u = Dropout(x, r, h) y = Relu(t)", {"r": F(0.5)}),
    "cast like": ("t = CastLike(i, x) y = Sub(x, t)", {}),
    "range": ("t = Range(k, m, n) u = CastLike(t, x) y = Add(x, u)", {"k": np.int64(0), "n": np.int64(1)}),
}


def unknown(nodes: str, constants: dict[str, Any]) -> ir.Model:
    """``nodes`` compute y from x, whose rank is a matter of the contents of an input."""
    given = ["int64[K] i", "int64[L] j", "int64 m", "bool[G] g"]
    return parse(
        f"""(float[N] v, int64[R] dims, {", ".join(given)}) => (float[M] flat) {{
        x = Expand(v, dims) {nodes} flat = Reshape(y, line) }}""",
        constants={"line": [-1], **constants},
    )


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str) -> None:
    model = unknown(*STAYS[name])
    before = [node.op_type for node in model.graph]
    outcome = simplify(model, feeds=[])
    assert [node.op_type for node in model.graph] == before, outcome.report.matched


GOES = {
    "cast": ("t = Cast<to=1>(x) y = Relu(t)", {}, "Relu(Expand(v, dims))"),
    "permutation": (
        "s = Transpose<perm=[1,0]>(x) t = Transpose<perm=[1,0]>(s) y = Relu(t)",
        {},
        "Relu(Expand(v, dims))",
    ),
    "identity permutation": ("t = Transpose<perm=[0,1]>(x) y = Relu(t)", {}, "Relu(Expand(v, dims))"),
    "inverse axes": (
        "s = Unsqueeze(x, p) t = Squeeze(s, p) y = Relu(t)",
        {"p": [1]},
        "Relu(Expand(v, dims))",
    ),
    "inverse axes, several": (
        "s = Unsqueeze(x, p) t = Squeeze(s, q) y = Relu(t)",
        {"p": [1, 0], "q": [0, 1]},
        "Relu(Expand(v, dims))",
    ),
    "scalar": ("t = Mul(x, c) y = Relu(t)", {"c": F(1)}, "Relu(Expand(v, dims))"),
    "slice to the end": ("t = Slice(x, z, e) y = Relu(t)", {"z": [0], "e": [2**40]}, "Relu(Expand(v, dims))"),
    "pad": ("t = Pad(x, c) y = Relu(t)", {"c": [0, 0]}, "Relu(Expand(v, dims))"),
    "one part": ("t = Concat<axis=0>(x) y = Relu(t)", {}, "Relu(Expand(v, dims))"),
    "whole split": (
        "a, b = Split<axis=1,num_outputs=2>(x) t = Concat<axis=1>(a, b) y = Relu(t)",
        {},
        "Relu(Expand(v, dims))",
    ),
    "concats": (
        "t = Concat<axis=0>(x, x) y = Concat<axis=0>(x, t)",
        {},
        "Concat{axis=0}(Expand(v, dims), Expand(v, dims), Expand(v, dims))",
    ),
}


@pytest.mark.parametrize("name", GOES)
def test_goes_without_shapes(name: str) -> None:
    nodes, constants, expected = GOES[name]
    assert simplify(unknown(nodes, constants), feeds=[]).formula == f"Reshape({expected}, [-1])"
