"""Blocks of graphs written as text: fused ops, short towers, dangling values, bodies, and long chains."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from partition import check_partition

from optc.analysis.blocks import find_blocks
from optc.analysis.graph import captures, dataflow
from optc.analysis.stream import split_units
from optc.errors import InvalidModel

WEIGHTS_COMPUTED = """<ir_version: 10, opset_import: ["": 20]>
f (float[4,4] x) => (float[4,4] y) <float[4,2] a = {1,2,3,4,5,6,7,8}, float[2,4] b = {8,7,6,5,4,3,2,1}> {
    w = MatMul(a, b)  v = Relu(w)
    h = MatMul(x, w)  r = Relu(h)  m = Add(x, r)
    n = Mul(m, v)
    i = MatMul(n, w)  s = Relu(i)  y = Add(n, s)
}"""


def test_what_is_computed_from_weights_alone_is_no_data() -> None:
    """Low-rank or dequantized weights are products of constants, and no layers."""
    model = ir.from_proto(onnx.parser.parse_model(WEIGHTS_COMPUTED))
    found = find_blocks(model)
    check_partition(model, found)
    assert [(block.entry.name, block.exit.name) for block in found.blocks] == [("x", "n"), ("n", "y")]
    assert [node.outputs[0].name for node in found.prologue] == ["w"]  # which both blocks read


TWO_SHORT_TOWERS = """<ir_version: 10, opset_import: ["": 20]>
f (float[N,2] x, float[N,2] z) => (float[N,2] y, float[N,2] u) <float[2,2] w = {1,2,3,4}> {
    a = MatMul(x, w)  b = Add(x, a)  c = MatMul(b, w)  y = Add(b, c)
    p = MatMul(z, w)  q = Add(z, p)  r = MatMul(q, w)  u = Add(q, r)
}"""


def test_two_towers_of_two_layers_each_are_both_found() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TWO_SHORT_TOWERS))
    found = find_blocks(model)
    check_partition(model, found)
    assert sorted((block.entry.name, block.exit.name) for block in found.blocks) == [
        ("b", "y"), ("q", "u"), ("x", "b"), ("z", "q"),
    ]  # fmt: skip


FUSED = """
<ir_version: 9, opset_import: ["" : 20, "optc" : 1, "com.microsoft" : 1]>
main (float[2, 3, 4] x) => (float[2, 3, 4] y)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] g = {1,1,1,1}, float[4] b = {0,0,0,0}>
{
  h1 = MatMul(x, w)
  x1, s1 = optc.SkipLayerNorm(h1, x, g, b)
  q2 = MatMul(x1, w)
  a2 = optc.Attention(q2, x1, x1)
  h2 = MatMul(a2, w)
  x2 = SKIP(h2, x1, g, b)
  h3 = MatMul(x2, w)
  x3 = SKIP(h3, x2, g, b)
  q4 = MatMul(x3, w)
  a4 = optc.Attention(q4, x3, x3)
  h4 = MatMul(a4, w)
  x4 = SKIP(h4, x3, g, b)
  h5 = MatMul(x4, w)
  x5 = SKIP(h5, x4, g, b)
  y = MatMul(x5, w)
}
<domain: "optc", opset_import: ["" : 20]>
SkipLayerNorm (u, v, gamma, beta) => (o, total) {
  total = Add(u, v)
  o = LayerNormalization(total, gamma, beta)
}
<domain: "optc", opset_import: ["" : 20]>
Attention (q, k, v) => (o) {
  kt = Transpose<perm = [0, 2, 1]>(k)
  scores = MatMul(q, kt)
  p = Softmax(scores)
  o = MatMul(p, v)
}
"""


@pytest.mark.parametrize("skip", ["optc.SkipLayerNorm", "com.microsoft.SkipLayerNormalization"])
def test_skips_inside_fused_ops_are_seen(skip: str) -> None:
    model = ir.from_proto(onnx.parser.parse_model(FUSED.replace("SKIP", skip)))
    found = find_blocks(model)
    check_partition(model, found)
    assert [(b.kind, b.entry.name, b.exit.name) for b in found.blocks] == [
        ("mlp", "x", "x1"),
        ("transformer", "x1", "x3"),
        ("transformer", "x3", "x5"),
    ]
    assert [part.exit.name for part in found.blocks[1].parts] == ["x2", "x3"]


def test_a_graph_without_heavy_ops_is_all_prologue_or_epilogue() -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> f (float[2] x) => (float[2] y) { y = Relu(x) }'
    found = find_blocks(ir.from_proto(onnx.parser.parse_model(text)))
    assert not found.blocks and found.stream == ()
    assert len(found.prologue) + len(found.epilogue) == 1


def test_a_dangling_value_is_named() -> None:
    value = ir.Value(name="ghost")
    node = ir.node("Relu", [value], name="reader")
    model = ir.Model(ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 20}), ir_version=10)
    with pytest.raises(InvalidModel, match="ghost"):
        find_blocks(model)


def test_long_skips_by_the_thousand_stay_linear_in_what_they_visit() -> None:
    """Every sum reaches back to the input: walking them all in full would take minutes."""
    x = ir.Value(name="x", shape=ir.Shape([1, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", const_value=ir.tensor(np.eye(8, dtype=np.float32), name="w"))
    nodes, current = [], x
    for _ in range(1000):
        product = ir.node("MatMul", [current, weight])
        total = ir.node("Add", [x, product.outputs[0]])
        nodes += [product, total]
        current = total.outputs[0]
    graph = ir.Graph([x], [current], nodes=nodes, initializers=[weight], opset_imports={"": 20})
    model = ir.Model(graph, ir_version=10)
    check_partition(model, find_blocks(model))


@pytest.mark.parametrize(
    ("kinds", "units"),
    [
        ("cccamamam", "c c c am am am"),
        ("aamaam", "aam aam"),
        ("aam", "aam"),
        ("macmmacm", "macm macm"),
        ("mamam", "m am am"),
        ("mama", "ma ma"),
        ("aaaa", "a a a a"),
        ("", ""),
    ],
)
def test_what_repeats_is_one_unit(kinds: str, units: str) -> None:
    assert " ".join(split_units(kinds)) == units


def test_values_that_only_a_body_returns_or_reads_are_captured() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> f (bool c, float[2] x) => (float[2] y) {
      h = Relu(x)
      k = Exp(x)
      y = If(c) <
        then_branch = a () => (float[2] t) {
          t = If(c) <
            then_branch = d () => (float[2] u) { u = Neg(k) },
            else_branch = e () => (float[2] v) { v = Abs(h) }
          >
        },
        else_branch = b () => (float[2] w) { w = Neg(h) }
      >
    }"""
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    (read,) = captures(graph).values()
    assert sorted(value.name for value in read) == ["c", "h", "k"]
    inner = graph.node(2).attributes["then_branch"].as_graph()
    (read,) = captures(inner).values()
    assert sorted(value.name for value in read) == ["h", "k"]
    edges = {(a.op_type, b.op_type) for a, b in dataflow(graph).edges}
    assert edges == {("Relu", "If"), ("Exp", "If")}
