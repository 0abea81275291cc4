"""The listing shows all that distinguishes two models, and changes only where they differ."""

from __future__ import annotations

import difflib

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from optc.listing import listing, operand_text, source_text, type_text

TEXT = """
<ir_version: 9, opset_import: ["" : 20, "optc" : 1]>
main (float[batch, 4] x, bool flag) => (float[batch, 4] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
 float two = {2.0}, int64[1] axes = {1}>
{
  h = MatMul(x, w)
  d = Mul(h, two)
  m = ReduceMean<keepdims: int = 1>(d, axes)
  z = optc.Twice<gain: float = 0.00001>(m)
  y = If(flag) <
    then_branch = a () => (float[batch, 4] t) { t = Add(d, z) },
    else_branch = b () => (float[batch, 4] e) { e = Sub(d, z) }
  >
}
<domain: "optc", opset_import: ["" : 20]>
Twice <gain> (v) => (o) { o = Add(v, v) }
"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def changed_lines(before: ir.Model, after: ir.Model) -> list[str]:
    lines = difflib.ndiff(listing(before).splitlines(), listing(after).splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_every_part_of_a_model_is_listed() -> None:
    lines = listing(model()).splitlines()
    assert "input %x: f32[batch, 4]" in lines
    assert "%d: f32[batch, 4] = Mul(%h, f32:2.0)" not in lines  # no inferred shapes in this file
    assert "%d: ? = Mul(%h, f32:2.0)" in lines
    assert "%m: ? = ReduceMean(%d, i64:[1]) {keepdims=1}" in lines
    assert "%z: ? = optc::Twice(%m) {gain=1e-05}" in lines
    assert "  then_branch:" in lines and "    %t: f32[batch, 4] = Add(%d, %z)" in lines
    assert "function optc::Twice(%v) {gain}" in lines and "  return %o" in lines
    assert any(line.startswith("weight %w: f32[4, 4] #") for line in lines)


def test_it_is_the_same_text_for_the_same_model_and_leaves_it_alone() -> None:
    one = model()
    before = ir.to_proto(one).SerializeToString()
    assert listing(one) == listing(model())
    assert ir.to_proto(one).SerializeToString() == before


def test_one_edited_node_is_one_changed_line() -> None:
    edited = model()
    edited.graph[0].replace_input_with(1, edited.graph[0].inputs[0])
    assert len(changed_lines(model(), edited)) == 2


def test_an_edited_weight_shows_in_its_hash_alone() -> None:
    edited = model()
    weight = edited.graph.initializers["w"]
    data = weight.const_value.numpy().copy()
    data[3, 3] = 17
    weight.const_value = ir.tensor(data, name="w")
    assert [line[:10] for line in changed_lines(model(), edited)] == ["- weight %", "+ weight %"]
    assert listing(model(), hashes=False) == listing(edited, hashes=False)


def test_a_tiny_weight_that_is_an_input_too_can_be_fed_so_its_name_is_shown() -> None:
    value = ir.Value(name="k", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = ir.tensor(np.ones(1, np.float32), name="k")
    ir.Graph([value], [], nodes=[], initializers=[value], opset_imports={"": 20})
    assert operand_text(value) == "%k"
    assert operand_text(None) == "_"


def test_types_that_are_not_tensors_or_not_known() -> None:
    tensor = ir.TensorType(ir.DataType.BFLOAT16)
    assert type_text(ir.Value(name="a", type=ir.SequenceType(tensor))) == "seq(bf16[?...])"
    nested = ir.OptionalType(ir.SequenceType(tensor))
    assert (
        type_text(ir.Value(name="a", type=nested, shape=ir.Shape([None, 2]))) == "optional(seq(bf16[?, 2]))"
    )
    assert type_text(ir.Value(name="a", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))) == "bool[]"


def test_the_source_is_the_innermost_module_and_foreign_metadata_is_ignored() -> None:
    node = ir.node("Relu", [ir.Value(name="x")])
    assert source_text(node) == ""
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'encoder', 'encoder.layer', 'relu_1']"
    assert source_text(node) == "encoder.layer"
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "not a list"
    assert source_text(node) == ""
