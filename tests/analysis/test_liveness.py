"""The peak is at the node where inputs, outputs and what is needed later add up to most."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from optc.analysis import shapes
from optc.analysis.liveness import Liveness, liveness


def trace(graph: str, bind: dict[str, int] | None = None) -> Liveness:
    text = f'<ir_version: 9, opset_import: ["" : 20]> main {graph}'
    model = ir.from_proto(onnx.parser.parse_model(text))
    shapes.infer(model)
    return liveness(model.graph, bind)


def test_a_value_lives_from_its_node_to_its_last_reader() -> None:
    found = trace("(float[10] x) => (float[10] y) { a = Exp(x) b = Exp(a) c = Exp(b) y = Add(c, a) }")
    assert found.after == (80, 120, 160, 160)
    assert found.peak_bytes == 160 and found.node is not None and found.node.outputs[0].name == "c"
    assert [value.name for value in found.live] == ["x", "a", "b", "c"]


def test_views_share_a_buffer_and_keep_it_alive() -> None:
    found = trace(
        "(float[10] x) => (float[2,5] y) <int64[2] s = {2, 5}> "
        "{ a = Exp(x) b = Reshape(a, s) c = Exp(b) y = Exp(c) }"
    )
    assert found.after == (80, 80, 120, 120)


def test_what_nobody_reads_still_needs_room_once() -> None:
    found = trace("(float[10] x) => (float[10] y) { dead = Exp(x) y = Exp(x) }")
    assert found.after == (80, 80)


def test_named_dims_need_a_size() -> None:
    graph = "(float[n] x) => (float[n] y) { y = Exp(x) }"
    assert trace(graph, {"n": 5}).peak_bytes == 40
    assert [value.name for value in trace(graph).unknown] == ["x", "y"]


def test_a_body_adds_its_own_peak() -> None:
    found = trace(
        """(bool c, float[8] x) => (float[8] y) { y = If(c) <
        then_branch = a () => (float[8] t) { u = Exp(x) v = Exp(u) t = Add(u, v) },
        else_branch = b () => (float[8] e) { e = Exp(x) }> }"""
    )
    assert found.peak_bytes == 1 + 32 + 32 + 3 * 32


def test_a_graph_without_nodes() -> None:
    assert liveness(ir.Graph([], [], nodes=[], opset_imports={"": 20})) == Liveness(0, None, (), (), ())
