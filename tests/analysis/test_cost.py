"""Costs follow from their definitions, symbolic or not, and what is not known is said."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.analysis.concrete import concrete
from optc.analysis.cost import Machine, NodeCost, cost, this_machine, total
from optc.errors import UserError


def parse(graph: str, functions: str = "") -> ir.Model:
    head = '<ir_version: 9, opset_import: ["" : 20, "optc" : 1, "com.microsoft" : 1, "x" : 1]>'
    model = ir.from_proto(onnx.parser.parse_model(f"{head} main {graph} {functions}"))
    shapes.infer(model)
    return model


def one(graph: str, bind: dict[str, int] | None = None) -> NodeCost:
    return list(cost(parse(graph), bind).values())[-1]


@pytest.mark.parametrize(
    ("graph", "flops", "read", "written"),
    [
        ("(float[2,3,4] a, float[4,5] b) => (float[2,3,5] y) { y = MatMul(a, b) }", 2 * 30 * 4, 44 * 4, 120),
        ("(float[4,3] a, float[4,5] b, float[5] c) => (y) { y = Gemm<transA = 1>(a, b, c) }", 2 * 15 * 4 + 15,
         37 * 4, 60),
        ("(float[1,4,8,8] x, float[6,2,3,3] w) => (y) { y = Conv<group = 2, pads = [1,1,1,1]>(x, w) }",
         2 * 6 * 64 * 18, 364 * 4, 6 * 64 * 4),
        ("(float[1,4,8,8] x, float[4,6,2,2] w) => (y) { y = ConvTranspose<strides = [2,2]>(x, w) }",
         2 * 256 * 24, 352 * 4, 6 * 256 * 4),
        ('(float[2,3] a, float[3,4] b) => (y) { y = Einsum<equation = "ij,jk->ik">(a, b) }', 48, 72, 32),
        ("(float[7] x) => (y) { y = Relu(x) }", 7, 28, 28),
        ("(float[3,7] x) => (y) { y = Softmax(x) }", 105, 84, 84),
        ("(float[3,7] x) => (y) { y = ReduceSum<keepdims = 0>(x) }", 21, 84, 4),
        ("(float[1,1,4,4] x) => (y) { y = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }", 16, 64, 16),
        ("(float16[3,7] x) => (y) { y = Transpose(x) }", 0, 42, 42),
        ("(float[3,7] x, int64[1] s) => (y) { y = Reshape(x, s) }", 0, 0, 0),
        ("(float[1000,4] t, int64[2] i) => (y) { y = Gather(t, i) }", 0, 32 + 16, 32),
    ],
)  # fmt: skip
def test_operators(graph: str, flops: int, read: int, written: int) -> None:
    assert one(graph) == NodeCost(flops, read, written)


def test_named_dims_stay_symbolic_until_they_are_bound() -> None:
    graph = "(float[batch,3,4] a, float[4,5] b) => (float[batch,3,5] y) { y = MatMul(a, b) }"
    symbolic = one(graph)
    assert isinstance(symbolic.flops, ir.SymbolicDim) and symbolic.flops.evaluate({"batch": 2}) == 240
    assert one(graph, {"batch": 2}).flops == 240


def test_an_unknown_operator_has_bytes_and_a_note() -> None:
    found = one("(float[3] a) => (float[3] y) { y = x.Mystery(a) }")
    assert (found.flops, found.read, found.written) == (None, 12, 12)
    assert found.note == "no operation count for Mystery: bytes only"


def test_an_unknown_shape_is_unknown_and_not_zero() -> None:
    found = one("(float[2] a) => (float[n] y) { h = x.Mystery(a) y = Relu(h) }")
    assert found.flops is not None  # the declared output has a shape
    assert found.read is None and found.note == "a shape of Relu is not known"


FUNCTION = """
<domain: "optc", opset_import: ["" : 20]>
Scores <scale: float = 1.0> (q, k) => (p) { t = Transpose<perm = [0,2,1]>(k) s = MatMul(q, t) p = Softmax(s) }
"""


def test_a_fused_function_does_the_work_of_its_body_and_keeps_its_intermediates() -> None:
    model = parse("(float[1,8,4] q, float[1,6,4] k) => (float[1,8,6] p) { p = optc.Scores(q, k) }", FUNCTION)
    (found,) = cost(model).values()
    assert found == NodeCost(2 * 48 * 4 + 5 * 48, (32 + 24) * 4, 48 * 4)


def test_branches_count_every_body_once_and_say_so() -> None:
    found = one(
        """(bool c, float[4] x) => (float[4] y) { y = If(c) <
        then_branch = a () => (float[4] t) { t = Add(x, x) },
        else_branch = b () => (float[4] e) { e = Exp(x) }> }"""
    )
    assert found.flops == 8 and found.note == "If: every body counted once"


def test_totals_leave_out_what_is_unknown_and_keep_the_notes() -> None:
    batch = ir.SymbolicDim("batch")
    added = total(
        [NodeCost(1, 2, 3), NodeCost(batch, 0, 0), NodeCost(batch, 1, 1), NodeCost(None, None, 4, "why")]
    )
    assert isinstance(added.flops, ir.SymbolicDim) and added.flops.evaluate({"batch": 10}) == 21
    assert (added.read, added.written, added.note) == (3, 8, "why")


def test_the_roofline_is_the_slower_of_arithmetic_and_traffic() -> None:
    machine = Machine(flops_per_s=1e3, bytes_per_s=1e4)
    assert NodeCost(100, 10, 0).ms(machine) == pytest.approx(100)
    assert NodeCost(1, 5000, 0).ms(machine) == pytest.approx(500)
    assert NodeCost(None, None, None).ms(machine) == 0


def test_the_machine_is_measured_once() -> None:
    assert this_machine() is this_machine()
    assert this_machine().flops_per_s > 0 and this_machine().bytes_per_s > 0


GRAPH = "(float[batch,seq] x, float[seq,3] w) => (float[batch,3] y) { y = MatMul(x, w) }"


def test_binding_gives_numbers_everywhere_and_leaves_the_model_alone() -> None:
    model = parse(GRAPH)
    sized = concrete(model, {"seq": 7})
    assert sized.bind == {"batch": 1, "seq": 7} and sized.assumed == ("batch",)
    assert list(sized.model.graph.outputs[0].shape or ()) == [1, 3]
    assert str(model.graph.inputs[0].shape) == "[batch,seq]"


@pytest.mark.parametrize(
    ("bind", "message"), [({"sqe": 7}, "no input has a dim named 'sqe'"), ({"seq": 0}, "at least 1")]
)
def test_a_wrong_size_is_refused(bind: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        concrete(parse(GRAPH), bind)
