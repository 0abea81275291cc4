"""A model is raised to a newer operator set only as far as every operator in it keeps its meaning."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import optc
from optc import opsets
from optc.analysis import shapes
from optc.capture.opset import newest_opset
from optc.codegen.ort import kernels
from optc.opsets.changes import CHANGES
from optc.oracle import run

NEWEST = newest_opset() or 0
Node = helper.make_node


def model(node: onnx.NodeProto, opset: int, *inputs: np.ndarray, outputs: int = 1) -> ir.Model:
    """One node on graph inputs x0, x1...; its results are y0, y1..."""
    node.input.extend([f"x{i}" for i in range(len(inputs))] if not node.input else [])
    node.output.extend(f"y{i}" for i in range(outputs))
    given = [
        helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for i, x in enumerate(inputs)
    ]
    graph = helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made)
    loaded = ir.from_proto(made)
    shapes.infer(loaded)
    return loaded


RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)
GRID = RNG.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)
GROUPS = X[0, 0, 0, :2]
KERNEL = X[:, :, :2, :2].swapaxes(0, 1)[:4]
SIZES = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
REWRITTEN = [
    *[(Node(f"Reduce{r}", [], [], axes=[1, -1], keepdims=0), 13, [abs(X) + 1], 1)
      for r in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")],
    (Node("ReduceMean", [], []), 13, [X], 1),
    (Node("ReduceSum", [], [], axes=[2]), 11, [X], 1),
    (Node("Squeeze", [], [], axes=[0]), 11, [X[:1]], 1),
    (Node("Unsqueeze", [], [], axes=[0, 2]), 11, [X], 1),
    (Node("Split", [], [], axis=2), 13, [X], 3),
    (Node("Split", [], [], axis=2, split=[1, 2, 3]), 11, [X], 3),
    (Node("Split", [], [], axis=2), 11, [X], 2),
    (Node("Softmax", [], [], axis=3), 11, [X], 1),
    (Node("LogSoftmax", [], []), 12, [X[0, 0]], 1),
    (Node("Clip", [], [], max=0.5), 7, [X], 1),
    (Node("Clip", [], [], min=-0.5, max=0.5), 7, [X], 1),
    (Node("Dropout", [], [], ratio=0.3), 10, [X], 1),
    (Node("GridSample", [], [], mode="bicubic"), 16, [X, GRID], 1),
    (Node("GridSample", [], []), 16, [X, GRID], 1),
    (Node("DFT", [], []), 17, [X[..., None]], 1),
    (Node("DFT", [], [], axis=3), 17, [X[..., None]], 1),
    (Node("RoiAlign", [], [], output_height=2, output_width=2), 10,
     [X, np.array([[0.3, 0.2, 4.1, 5.2]], np.float32), np.array([1], np.int64)], 1),
    (Node("Pad", [], [], pads=[0, 0, 1, 0, 0, 0, 0, 2], value=3.0), 9, [X], 1),
    (Node("Slice", [], [], starts=[1, 0], ends=[3, 5], axes=[1, 3]), 9, [X], 1),
    (Node("Slice", [], [], starts=[1], ends=[2]), 9, [X], 1),
    (Node("TopK", [], [], k=2, axis=3), 9, [X], 2),
    (Node("BatchNormalization", [], [], spatial=1), 7, [X, *(abs(X[0, :, 0, i]) for i in range(4))], 1),
]  # fmt: skip
UNCHANGED = [
    (Node("AveragePool", [], [], **SIZES), 11, [X], 1),
    (Node("MaxPool", [], [], **SIZES, pads=[1, 1, 1, 1]), 12, [X], 1),
    (Node("Relu", [], []), 7, [X], 1),
    (Node("Conv", [], []), 7, [X, RNG.standard_normal((3, 4, 2, 2)).astype(np.float32)], 1),
    (Node("Reshape", [], []), 5 + 2, [X, np.array([0, -1])], 1),
    (Node("Cast", [], [], to=TensorProto.INT64), 13, [X * 5], 1),
]  # fmt: skip


@pytest.mark.parametrize(
    "node,opset,inputs,outputs", REWRITTEN + UNCHANGED, ids=lambda x: getattr(x, "op_type", "")
)
def test_results_stay(node: onnx.NodeProto, opset: int, inputs: list[np.ndarray], outputs: int) -> None:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    source = model(copy, opset, *inputs, outputs=outputs)
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    expected = run(source, feeds)
    raised = opsets.raise_to(source, NEWEST, kernels.keeps_kernel)
    assert raised.before == opset
    assert raised.after == NEWEST or "no kernel" in str(raised.stopped)
    assert raised.after >= 21
    assert raised.rewritten == int(any(node is case[0] for case in REWRITTEN) and _is_rewritten(node, opset))
    for name, value in run(source, feeds).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6)


def _is_rewritten(node: onnx.NodeProto, opset: int) -> bool:
    """All of REWRITTEN but those that only relied on a default that stayed."""
    return not (node.op_type in ("ReduceMean", "GridSample") and not node.attribute)


STOPPED = [
    (Node("Softmax", [], [], axis=1), 11, [X], 1, 12, "flattened"),
    (Node("Dropout", [], [], ratio=0.3), 9, [X], 2, 9, "mask"),
    (Node("GroupNormalization", [], [], num_groups=2), 18, [X, GROUPS, GROUPS], 1, 20, "channels"),
    (Node("Upsample", [], [], scales=[1.0, 1.0, 2.0, 2.0]), 7, [X], 1, 8, "Upsample"),
    (Node("Resize", [], []), 10, [X, np.array([1, 1, 2, 2], np.float32)], 1, 10, "samples"),
    (Node("ConvTranspose", [], [], auto_pad="SAME_UPPER"), 10, [X, KERNEL], 1, 10, "pads"),
]  # fmt: skip


@pytest.mark.parametrize(
    "node,opset,inputs,outputs,after,why", STOPPED, ids=lambda x: getattr(x, "op_type", "")
)
def test_stops_below_a_change_of_meaning(
    node: onnx.NodeProto, opset: int, inputs: list[np.ndarray], outputs: int, after: int, why: str
) -> None:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    source = model(copy, opset, *inputs, outputs=outputs)
    raised = opsets.raise_to(source, NEWEST)
    assert (raised.before, raised.after) == (opset, after)
    assert raised.stopped is not None and node.op_type in raised.stopped and why in raised.stopped
    assert source.opset_imports[""] == after


def test_table_names_operators_and_versions_that_exist() -> None:
    """A misspelt entry would let a change of meaning through."""
    declared = {(schema.name, schema.since_version) for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(CHANGES) <= declared


def test_a_kernel_that_is_lost_stops_too() -> None:
    source = model(Node("Relu", [], []), 13, X)
    raised = opsets.raise_to(source, NEWEST, lambda node, old, new: new < 14)
    assert raised.after == 13 and "no kernel" in str(raised.stopped)


def test_subgraphs_and_functions_are_raised_with_the_graph() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 13, "own": 1]>
    g (float[2, 3] x, bool c) => (float[2, 1] y) {
      a = If (c) <then_branch: graph = t () => (float[2, 1] o) { o = ReduceMean<axes=[1]>(x) },
                  else_branch: graph = e () => (float[2, 1] p) { p = ReduceMax<axes=[1]>(x) }>
      y = own.twice (a)
    }
    <domain: "own", opset_import: ["": 13]>
    twice (a) => (b) { s = ReduceSum(a) d, u = Split<axis=0>(a) e = Concat<axis=0>(d, u) b = Add(e, s) }
    """
    source = ir.from_proto(onnx.parser.parse_model(text))
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32), "c": np.array(True)}
    expected = run(source, feeds)
    raised = opsets.raise_to(source, NEWEST)
    assert (raised.after, raised.rewritten) == (NEWEST, 3)
    assert {body.opset_imports[""] for body in (source.graph, *source.functions.values())} == {NEWEST}
    np.testing.assert_allclose(run(source, feeds)["y"], expected["y"], rtol=1e-6)


def test_parameter_of_a_function_cannot_become_an_input() -> None:
    text = """
    <ir_version: 8, opset_import: ["": 13, "own": 1]>
    g (float[2, 3] x) => (float[2, 1] y) { y = own.mean <axes: ints = [1]> (x) }
    <domain: "own", opset_import: ["": 13]>
    mean <axes> (a) => (b) { b = ReduceMean <axes: ints = @axes> (a) }
    """
    source = ir.from_proto(onnx.parser.parse_model(text))
    assert opsets.raise_to(source, NEWEST).after == 17


def test_artifact_imports_the_newest_opset_and_says_what_stopped_it() -> None:
    raised = optc.compile(ir.to_proto(model(Node("ReduceMean", [], [], axes=[1]), 13, X)), gate=False)
    assert raised.model.opset_imports[""] == NEWEST
    assert raised.report["opset"] == {"before": 13, "after": NEWEST}
    stopped = optc.compile(ir.to_proto(model(Node("Softmax", [], [], axis=1), 11, X)), gate=False)
    assert stopped.report["opset"]["after"] == 12 and "Softmax" in stopped.report["opset"]["stopped"]


def test_edit_names_do_not_clash() -> None:
    source = model(Node("ReduceMean", [], [], axes=[1]), 13, X)
    source.graph.inputs[0].name = "y0__axes"
    opsets.raise_to(source, NEWEST)
    names = [value.name for node in source.graph for value in node.outputs]
    assert len({*names, "y0__axes"}) == len(names) + 1
    assert numpy_helper.to_array(ir.to_proto(source).graph.node[0].attribute[0].t).tolist() == [1]
