"""Operators whose attributes and sizes contradict each other, and functions that lie: refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optc.capture.onnx_memory import from_proto
from optc.errors import InvalidModel

FLOAT = TensorProto.FLOAT


def one(op: str, *inputs: str, shape: tuple[int, ...] = (2, 3), **rest: Any) -> onnx.ModelProto:
    """A model of one node, named "it"; numpy arrays in ``rest`` are constants, the others attributes."""
    arrays = {name: each for name, each in rest.items() if isinstance(each, np.ndarray)}
    attributes = {name: each for name, each in rest.items() if name not in arrays}
    node = helper.make_node(op, list(inputs), ["y"], name="it", **attributes)
    x, y = (helper.make_tensor_value_info(name, FLOAT, size) for name, size in (("x", shape), ("y", None)))
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def function(body: list[onnx.NodeProto], arguments: int = 1) -> onnx.ModelProto:
    model = one("f", *["x"] * arguments)
    model.graph.node[0].domain = "local"
    opset = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "f", ["a"], ["b"], body, opset))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


IMAGE = (1, 2, 4, 4)
KERNEL = np.ones((2, 2, 5, 5), np.float32)
NEG = helper.make_node("Neg", ["a"], ["b"])

BROKEN: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[str, ...]]] = {
    "two sizes to be inferred": (lambda: one("Reshape", "x", "s", s=ints(-1, -1)), ("(it)", "-1")),
    "axis that is not there": (lambda: one("Concat", "x", "x", axis=9), ("(it)", "axis")),
    "axis given twice": (lambda: one("Transpose", "x", perm=[0, 0]), ("(it)", "repeated value")),
    "stride of nothing": (
        lambda: one("Conv", "x", "w", shape=IMAGE, w=KERNEL, strides=[0, 0]),
        ("(it)", "strides"),
    ),
    "kernel larger than the image": (
        lambda: one("Conv", "x", "w", shape=(1, 2, 2, 2), w=KERNEL),
        ("'it'", "[1,2,-2,-2]", "sizes below 0"),
    ),
    "scale below zero": (
        lambda: one("Resize", "x", "", "s", shape=(1, 1, 4, 4), s=np.array([1, 1, -2, 2], np.float32)),
        ("'it'", "negative dim"),
    ),
    "more taken away than is there": (
        lambda: one("Pad", "x", "p", p=ints(-9, -9, -9, -9)),
        ("'it'", "[-16,-15]"),
    ),
    "type that does not exist": (lambda: one("Cast", "x", to=999), ("(it)", "valid type")),
    "equation of nonsense": (lambda: one("Einsum", "x", "x", equation="i~j,,->>k"), ("(it)", "Einsum")),
    "zero point of another type": (
        lambda: one("QuantizeLinear", "x", "s", "z", s=np.array(1, np.float32), z=np.array(0, np.int32)),
        ("(it)", "int32"),
    ),
    "trip count of another type": (
        lambda: one("Loop", "n", "", "x", n=np.array(3, np.int32), body=_loop_body()),
        ("(it)", "int32"),
    ),
    "branches of different counts": (lambda: _if(), ("(it)", "different number of outputs")),
    "elements of two types": (
        lambda: one("SequenceConstruct", "x", "i", i=ints(1, 2)),
        ("(it)", "different types"),
    ),
    "int4 of the wrong length": (
        lambda: _with_int4(bytes(17)),
        ("'w'", "17 bytes", "needs 3"),
    ),
    "call with too many arguments": (lambda: function([NEG], 3), ("'it'", "3 inputs", "has 1")),
    "function output that nobody computes": (
        lambda: function([helper.make_node("Neg", ["a"], ["c"])]),
        ("function local::f", "'b'"),
    ),
}


def _loop_body() -> onnx.GraphProto:
    boolean, number = TensorProto.BOOL, TensorProto.INT64
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["a"], ["b"])]
    ins = [value("i", number, []), value("go", boolean, []), value("a", FLOAT, None)]
    return helper.make_graph(nodes, "b", ins, [value("on", boolean, []), value("b", FLOAT, None)])


def _if() -> onnx.ModelProto:
    def branch(*names: str) -> onnx.GraphProto:
        nodes = [helper.make_node("Neg", ["x"], [name]) for name in names]
        return helper.make_graph(
            nodes, "b", [], [helper.make_tensor_value_info(n, FLOAT, None) for n in names]
        )

    return one("If", "c", c=np.array(True), then_branch=branch("p"), else_branch=branch("q", "r"))


def _with_int4(data: bytes) -> onnx.ModelProto:
    model = one("DequantizeLinear", "w", "s", s=np.array(1, np.float32))
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.INT4, dims=[2, 3], raw_data=data)
    )
    return model


@pytest.mark.parametrize("name", BROKEN)
def test_contradictions_are_refused(name: str) -> None:
    make, words = BROKEN[name]
    with pytest.raises(InvalidModel) as caught:
        from_proto(make())
    for word in words:
        assert word in str(caught.value), str(caught.value)
