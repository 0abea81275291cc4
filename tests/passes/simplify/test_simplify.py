"""The pass as a whole: what it never touches, what it reports, that it takes linear time."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from simplifying import TARGET, formula, parse, simplify

from optc.passbase import Context
from optc.passes.simplify import Simplify


def test_outputs_that_alias_inputs_and_constants_keep_their_names() -> None:
    body = """(float[B,4] x, float[B,4] z) => (float[B,4] a, float[B,4] b, float[B,4] c, float[2] d) {
        a = Identity(x) b = Mul(x, one) e = Relu(z) c = Identity(e) d = Identity(w) }"""
    constants = {"one": np.float32(1), "w": np.float32([1, 2])}
    assert formula(body, constants=constants) == "Identity(x); Identity(x); Relu(z); Identity([1.0, 2.0])"


def test_an_output_read_inside_the_graph() -> None:
    body = "(float[B] x) => (float[B] y, float[B] z) { e = Exp(x) y = Identity(e) z = Neg(y) }"
    assert formula(body) == "Exp(x); Neg(Exp(x))"


def test_body_of_a_loop_that_grows_its_state() -> None:
    """The state is [0] at first and longer later: no shape of the body is certain."""
    body = """(float[2] x, int64 n) => (float[M] y) {
        start = Slice(x, zero, zero)
        y = Loop(n, , start) <body = b (int64 i, bool go, float[K] s) => (bool again, float[L] t) {
            again = Identity(go) k = Shape(s) e = Expand(s, k) t = Concat<axis=0>(e, x) }> }"""
    x = np.float32([1, 2])
    feeds = [{"x": x, "n": np.array(count)} for count in (1, 3)]
    simplify(parse(body, constants={"zero": [0]}), feeds=feeds)


def test_names_stay_unique_across_subgraphs() -> None:
    body = """(bool c, float[B,4] x) => (float[B,4] y) {
        y = If(c) <then_branch = t () => (float[B,4] p) {
            k = Constant<value_float=2.0>() n = Neg(k) p = Mul(x, n) },
        else_branch = f () => (float[B,4] q) {
            k2 = Constant<value_float=2.0>() m = Neg(k2) q = Add(x, m) }> }"""
    model = simplify(parse(body)).model
    names = [value.name for graph in model.graphs() for node in graph for value in node.outputs]
    names += [name for graph in model.graphs() for name in graph.initializers]
    assert len(names) == len(set(names))
    assert all(node.op_type != "Neg" for node in model.graph.all_nodes())


def test_functions_are_left_alone() -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "f": 1]>
        g (float[B,4] x) => (float[B,4] y) { a = f.twice<k=0>(x) b = f.twice<k=0>(x) y = Add(a, b) }
        <domain: "f", opset_import: ["": 20]>
        twice <k> (x) => (y) { i = Identity(x) s = Softmax<axis: int = @k>(i) y = Identity(s) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    simplify(model)
    (function,) = model.functions.values()
    assert [node.op_type for node in function] == ["Identity", "Softmax", "Identity"]


def test_unused_inputs_and_optional_operands_stay() -> None:
    body = "(float[B,4] x, float[B,4] unused) => (float[B,4] y) { y = Clip(x, , top) }"
    assert formula(body, constants={"top": np.float32(1)}) == "Clip(x, _, 1.0)"


def test_source_of_a_replaced_node_is_kept() -> None:
    body = "a = Transpose<perm=[1,2,0]>(x) y = Transpose<perm=[2,1,0]>(a)"
    model = parse(f"(float[B,S,3] x) => (float[B,3,S] y) {{ {body} }}")
    model.graph.node(1).metadata_props["optc.source"] = "model.py:7"
    simplify(model)
    assert model.graph.node(0).metadata_props["optc.source"] == "model.py:7"


def test_dims_whose_names_are_no_expressions() -> None:
    model = parse("(float[B,4] x) => (float[B,4] y) { s = Shape(x) e = Expand(x, s) y = Relu(e) }")
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = ir.Shape(["0 my-batch!", 4])
    assert simplify(model, feeds=[{"x": np.ones((3, 4), np.float32)}]).formula == "Relu(x)"


def test_report() -> None:
    outcome = simplify(
        parse("(float[B] x) => (float[B] y) { a = Neg(x) b = Neg(a) dead = Exp(b) y = Abs(b) }")
    )
    assert outcome.report.changed
    assert outcome.report.matched == {"applied twice": 1, "dead code": 1}
    assert not simplify(parse("(float[B] x) => (float[B] y) { y = Abs(x) }")).report.changed


def layers(count: int) -> ir.Model:
    """A graph of 21 nodes a layer in which nearly everything can go, and everything hangs together."""
    x = ir.val("x", ir.DataType.FLOAT, ["B", 8, 16])
    one = ir.val("one", const_value=ir.tensor(np.float32(1)))
    split = ir.val("split", const_value=ir.tensor(np.array([8, 4, 4])))
    tape = ir.tape.Tape()
    rng = np.random.default_rng(0)
    initializers, value = [one, split], x
    for layer in range(count):
        weight = ir.val(f"w{layer}", const_value=ir.tensor(rng.normal(size=(16, 16)).astype(np.float32)))
        initializers.append(weight)
        value = tape.op("MatMul", [value, tape.op("Transpose", [weight], {"perm": [1, 0]})])
        shape = tape.op("Concat", [tape.op("Shape", [value], {"start": 0, "end": 1}), split], {"axis": 0})
        heads = tape.op("Transpose", [tape.op("Reshape", [value, shape])], {"perm": [0, 2, 1, 3]})
        heads = tape.op("Transpose", [heads], {"perm": [0, 2, 1, 3]})
        value = tape.op("Reshape", [heads, tape.op("Shape", [value])])
        value = tape.op("Cast", [tape.op("Cast", [value], {"to": 11})], {"to": 1})
        value = tape.op("Mul", [tape.op("Identity", [value]), one])
        tape.op("Exp", [value])  # dead
        value = tape.op("Add", [tape.op("Relu", [value]), tape.op("Relu", [value])])
        value = tape.op("Dropout", [tape.op("Expand", [value, tape.op("Shape", [value])])])
        value = tape.op("Tanh", [value])
    value.name, value.type, value.shape = "y", x.type, x.shape
    graph = ir.Graph(
        [x], [value], nodes=tape.nodes, initializers=initializers, opset_imports={"": 20}, name="layers"
    )
    return ir.Model(graph, ir_version=10)


def test_ten_thousand_nodes() -> None:
    """Quadratic work anywhere in the pass would take minutes here."""
    model = layers(500)
    assert model.graph.num_nodes() == 10_500
    report = Simplify().run(model, Context(target=TARGET))
    assert model.graph.num_nodes() == 500 * 4  # MatMul, Relu, Add, Tanh
    assert report.matched["constant folded"] == 500


def test_ten_thousand_readers_of_one_value() -> None:
    x = ir.val("x", ir.DataType.FLOAT, ["B", 16])
    one = ir.val("one", const_value=ir.tensor(np.float32(1)))
    tape = ir.tape.Tape()
    value = x
    for _ in range(5_000):
        value = tape.op("Add", [value, tape.op("Mul", [x, one])])
    value.name, value.type, value.shape = "y", x.type, x.shape
    graph = ir.Graph([x], [value], nodes=tape.nodes, initializers=[one], opset_imports={"": 20}, name="wide")
    model = ir.Model(graph, ir_version=10)
    Simplify().run(model, Context(target=TARGET))
    assert model.graph.num_nodes() == 5_000
