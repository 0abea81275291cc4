"""Each invariant is broken on purpose, and the verifier must name it, the place and the pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from optc import verify
from optc.analysis import shapes
from optc.errors import VerifyError


def parsed(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    for graph in model.graph.subgraphs():
        for index, node in enumerate(graph):
            node.name = f"s{index}"
    for function in model.functions.values():
        for index, node in enumerate(function):
            node.name = f"f{index}"
    shapes.infer(model)
    return model


def chain() -> ir.Model:
    return parsed(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,4] x) => (float[N,4] y) <float[4] w = {1, 2, 3, 4}> {
            a = Relu(x)  b = Add(a, w)  c = Neg(b)  y = Exp(c)
        }"""
    )


def branches() -> ir.Model:
    return parsed(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,4] x, bool c) => (float[N,4] y) {
            a = Relu(x)
            y = If (c) <
                then_branch = t () => (float[N,4] p) { p = Neg(a) },
                else_branch = e () => (float[N,4] q) { q = Exp(a) }
            >
        }"""
    )


def function() -> ir.Model:
    return parsed(
        """<ir_version: 10, opset_import: ["" : 20, "optc" : 1]>
        g (float[N,4] x) => (float[N,4] y) { y = optc.F(x) }
        <domain: "optc", opset_import: ["" : 20]>
        F (a) => (b) { t = Relu(a)  b = Neg(t) }"""
    )


def node(model: ir.Model, name: str) -> ir.Node:
    return next(n for n in model.graph.all_nodes() if n.name == name)


def rules(model: ir.Model, **how: object) -> list[str]:
    return [violation.rule for violation in verify.check(model, **how)]  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [chain, branches, function])
def test_sound_model_passes(make: Callable[[], ir.Model]) -> None:
    model = make()
    assert verify.check(model, interface=verify.interface_of(model)) == []
    assert verify.check(model.clone(), interface=verify.interface_of(model)) == []


def test_i1_dangling_input() -> None:
    """onnx_ir saves a dangling input without complaint."""
    model = chain()
    ghost = ir.val("ghost", ir.DataType.FLOAT, ["N", 4])
    node(model, "n1").replace_input_with(0, ghost)
    assert rules(model) == ["I1"]


def test_i1_use_before_definition() -> None:
    model = chain()
    last = node(model, "n2")
    model.graph.remove(last)
    model.graph.insert_before(node(model, "n0"), last)
    assert rules(model) == ["I1"]


def test_i1_value_of_a_branch_is_not_visible_outside() -> None:
    model = branches()
    inner = node(model, "n1").attributes["then_branch"].as_graph()[0].outputs[0]
    model.graph.append(ir.node("Relu", [inner], outputs=[ir.val("z", ir.DataType.FLOAT, [1])], name="late"))
    assert "I1" in rules(model)


def test_i1_output_that_nobody_produces() -> None:
    model = chain()
    model.graph.outputs[0] = ir.val("nobody", ir.DataType.FLOAT, ["N", 4])
    assert "I1" in rules(model)


def test_i2_node_removed_without_its_uses() -> None:
    model = chain()
    ir.node("Abs", [node(model, "n0").outputs[0]], name="stray")
    assert rules(model) == ["I2"]
    assert "stray" in verify.check(model)[0].what


def test_i3_two_values_of_one_name() -> None:
    model = chain()
    node(model, "n2").outputs[0].name = "a"
    assert "I3" in rules(model)


@pytest.mark.parametrize("name", ["", None])
def test_i3_a_value_without_a_name(name: str | None) -> None:
    model = chain()
    node(model, "n2").outputs[0].name = name
    assert "a value has no name" in [found.what for found in verify.check(model)]


def test_i3_nodes_without_a_name_or_with_the_same() -> None:
    model = chain()
    node(model, "n2").name = "n1"
    node(model, "n0").name = ""
    assert rules(model) == ["I3", "I3"]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m.graph.inputs[0], "name", "other"),
        lambda m: setattr(m.graph.inputs[0], "dtype", ir.DataType.DOUBLE),
        lambda m: setattr(m.graph.inputs[0], "shape", ir.Shape([1, 4, 1])),
        lambda m: m.graph.outputs.append(node(m, "n0").outputs[0]),
    ],
)
def test_i4_interface(change: Callable[[ir.Model], None]) -> None:
    model = chain()
    interface = verify.interface_of(model)
    change(model)
    assert "I4" in rules(model, interface=interface)


def test_i5_value_without_a_type_or_a_rank() -> None:
    model = chain()
    node(model, "n0").outputs[0].shape = None
    node(model, "n1").outputs[0].type = None
    assert rules(model) == ["I5", "I5"]


def test_i5_is_satisfied_by_the_mark_of_inference() -> None:
    model = parsed(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[N] x, int64[K] s) => (float y) { r = Reshape(x, s)  y = ReduceSum(r) }"""
    )
    assert node(model, "n0").outputs[0].shape is None
    assert rules(model) == []


def test_i6_data_of_another_type_or_shape() -> None:
    model = chain()
    model.graph.initializers["w"].const_value = ir.tensor(np.zeros(4, np.int64))
    assert rules(model) == ["I6"]
    model.graph.initializers["w"].const_value = ir.tensor(np.zeros(5, np.float32))
    assert rules(model) == ["I6"]


def test_i7_unknown_operator_and_unknown_attribute() -> None:
    model = chain()
    node(model, "n0").op_type = "Frobnicate"
    node(model, "n2").attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
    assert rules(model) == ["I7", "I7"]


def test_i7_looks_into_functions_and_branches() -> None:
    model = function()
    next(iter(model.functions.values()))[0].op_type = "Frobnicate"
    assert rules(model) == ["I7"]
    model = branches()
    node(model, "n1").attributes["else_branch"].as_graph()[0].op_type = "Frobnicate"
    assert "else_branch of node 'n1'" in verify.check(model)[0].where


def test_message_shows_rule_place_surroundings_pass_and_source() -> None:
    model = chain()
    broken = node(model, "n2")
    broken.metadata_props[verify.SOURCE_KEY] = "model.py:12 in forward"
    broken.replace_input_with(0, ir.val("ghost", ir.DataType.FLOAT, ["N", 4]))
    with pytest.raises(VerifyError) as caught:
        verify.verify(model, after="simplify")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("after pass 'simplify': I1 (inputs are defined before use): input 0 ('ghost')")
    assert "node 'n2' (Neg) in the main graph" in lines[1]
    assert lines[2] == "  source: model.py:12 in forward"
    assert lines[3:] == [
        "    %a = Relu(%x)",
        "    %b = Add(%a, %w)",
        "  > %c = Neg(%ghost)",
        "    %y = Exp(%c)",
    ]


@pytest.mark.timeout(30)
def test_large_graph_with_a_value_that_everything_reads() -> None:
    """Use lists are compared in linear time; quadratic would take minutes here."""
    x = ir.val("x", ir.DataType.FLOAT, [4])
    value, nodes = x, []
    for index in range(10_000):
        nodes.append(ir.node("Add", [value, x], name=f"n{index}"))
        value = nodes[-1].outputs[0]
        value.name, value.dtype, value.shape = f"v{index}", ir.DataType.FLOAT, ir.Shape([4])
    model = ir.Model(ir.Graph([x], [value], nodes=nodes, opset_imports={"": 20}, name="g"), ir_version=10)
    assert verify.check(model) == []


def test_the_message_counts_what_else_is_wrong() -> None:
    model = chain()
    for node in model.graph:
        node.op_type = f"No{node.op_type}"
    count = len(verify.check(model))
    assert count > 1
    with pytest.raises(VerifyError, match=rf"after pass 'fuse': .*\n(.*\n)*\.\.\. and {count - 1} more"):
        verify.verify(model, after="fuse")
