"""Attention as ONNX text, and what the tests do with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from optc import oracle, rewrite
from optc.analysis import shapes
from optc.passes.fuse.attention import Attention
from optc.passes.fuse.heads import Heads
from optc.trail import Trail

SPLIT = """
    {0}_split = Reshape ({0}_in, split)
    {0} = Transpose <perm = [0, 2, 1, 3]> ({0}_split)
"""
MERGE = """
    merged = Transpose <perm = [0, 2, 1, 3]> (attended)
    y = Reshape (merged, merge)
"""
SIZES = "int64[4] split = {0, 0, 4, 6}, int64[3] merge = {0, 0, 24}"


def model(
    body: str,
    *,
    inputs: str = "float[b, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v",
    outputs: str = "float[b, 4, s, 6] y",
    constants: str = "",
    opset: int = 20,
) -> ir.Model:
    """A model of ONNX statements, with dynamic batch and lengths unless the inputs say otherwise."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]>\nattention ({inputs}) => ({outputs})'
    text += f" <{constants}>" if constants else ""
    return ir.serde.deserialize_model(onnx.parser.parse_model(f"{text} {{ {body} }}"))


def whole(body: str, *, constants: str = "", extra: str = "") -> ir.Model:
    """``attended`` of 4-D q, k and v, with the split and the merge of four heads of six columns."""
    statements = "".join(SPLIT.format(name) for name in "qkv") + body + MERGE
    inputs = "float[b, s, 24] q_in, float[b, t, 24] k_in, float[b, t, 24] v_in" + extra
    sizes = f"{SIZES}, {constants}" if constants else SIZES
    return model(statements, inputs=inputs, outputs="float[b, s, 24] y", constants=sizes)


def fuse(graph: ir.Model, trail: Trail | None = None) -> rewrite.Fusions:
    """Runs both attention patterns."""
    shapes.infer(graph)
    return rewrite.apply([Attention(), Heads()], graph, trail)


def call(graph: ir.Model) -> ir.Node:
    """The only call of a fused function."""
    (node,) = [node for node in graph.graph if node.domain == rewrite.DOMAIN]
    return node


def ops(graph: ir.Model) -> list[str]:
    """What the main graph consists of, constants left out."""
    return [node.op_type for node in graph.graph if node.op_type != "Constant"]


def facts(node: ir.Node) -> dict[str, float]:
    """The attributes of a call, numbers rounded."""
    return {name: round(float(attribute.value), 6) for name, attribute in node.attributes.items()}


def reasons(done: rewrite.Fusions, pattern: str = "attention") -> list[str]:
    """Why a pattern refused."""
    start = f"{pattern} not fused: "
    return [skip.reason.removeprefix(start) for skip in done.skipped if skip.reason.startswith(start)]


def random_feeds(graph: ir.Model, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers, and booleans that leave the first batch row without any True, for dims of ``sizes``."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.graph.inputs:
        assert value.shape is not None and value.dtype is not None
        shape = [size if isinstance(size, int) else sizes[str(size.value)] for size in value.shape]
        if value.dtype == ir.DataType.BOOL:
            feeds[value.name] = rng.random(shape) > 0.4
            feeds[value.name][:1] = False
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(value.dtype.numpy())
    return feeds


def assert_same(expected: ir.Model, actual: ir.Model, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Both models give the same on all feeds, NaN in the same places included."""
    for each in feeds:
        wanted, got = oracle.run(expected, dict(each)), oracle.run(actual, dict(each))
        for name, array in wanted.items():
            np.testing.assert_allclose(got[name], array, rtol=2e-4, atol=2e-5, err_msg=name)


# Of one attention over q, k and v [batch, 4 heads, length, 6].
LENGTHS = {"b": 3, "s": 5, "t": 7}
MASK = ", bool[b, 1, 1, t] mask"
BASE = "float[b, 4, s, 6] q, float[b, 4, t, 6] k, float[b, 4, t, 6] v"
PRODUCT = """
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    product = MatMul (q, kt)
"""
FINISH = """
    weights = Softmax <axis = -1> (scores)
    y = MatMul (weights, v)
"""
CONSTANTS = "float scale = {0.4}, float two = {2}, float zero = {0}, float low = {-inf}"
CONSTANTS += ", float lowest = {-3.4028235e38}"


def attention(middle: str, finish: str = FINISH, product: str = PRODUCT, **options: Any) -> ir.Model:
    inputs = BASE + MASK + ", bool[b, 1, s, t] other, float[1, 4, s, t] bias"
    return model(product + middle + finish, inputs=inputs, constants=CONSTANTS, **options)
