"""Attention with one permutation, axis, size or operator changed is refused, or stays right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import onnx_ir as ir
from attention_text import MERGE, SPLIT, fuse, model, random_feeds
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from optc import oracle

_NOT_A_MODEL = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.RuntimeException)


def _mutants() -> Iterator[tuple[str, ir.Model]]:
    """The whole of attention, with one number, axis or operator changed in each."""
    count = len(list(_cube().graph))
    for position in range(count):
        for label, change in _changes(list(_cube().graph)[position]):
            graph = _cube()
            change(list(graph.graph)[position])
            yield f"{position} {label}", graph
    for name in ("split", "merge"):
        for index in range(len(_cube().graph.initializers[name].const_value.numpy())):
            for number in (-1, 0, 1, 2, 4, 8, 16):
                graph = _cube()
                array = graph.graph.initializers[name].const_value.numpy().copy()
                array[index] = number
                graph.graph.initializers[name].const_value = ir.tensor(array, name=name)
                yield f"{name}[{index}] = {number}", graph


def _cube() -> ir.Model:
    """Attention all of whose sizes are 4, so that a mixed-up axis fits everywhere."""
    text = "".join(SPLIT.format(name) for name in "qkv")
    text += """
        kt = Transpose <perm = [0, 1, 3, 2]> (k) product = MatMul (q, kt) scaled = Div (product, scale)
        biased = Add (scaled, bias) masked = Where (mask, biased, low) weights = Softmax <axis = -1> (masked)
        nan = IsNaN (weights) safe = Where (nan, zero, weights) attended = MatMul (safe, v)
    """
    constants = "int64[4] split = {0, 0, 4, 4}, int64[3] merge = {0, 0, 16}, float scale = {2}, "
    constants += "float low = {-inf}, float zero = {0}"
    inputs = ", ".join(f"float[4, 4, 16] {name}_in" for name in "qkv")
    inputs += ", float[1, 4, 4, 4] bias, bool[4, 1, 4, 4] mask"
    return model(text + MERGE, inputs=inputs, outputs="float[4, 4, 16] y", constants=constants)


def _changes(node: ir.Node) -> Iterator[tuple[str, object]]:
    perm = node.attributes.get("perm")
    if perm is not None:
        for other in permutations(range(4)):
            if list(other) != list(perm.as_ints()):
                yield f"perm {other}", lambda n, p=other: n.attributes.add(ir.AttrInt64s("perm", p))
    if "axis" in node.attributes:
        for axis in (0, 1, 2, 3, -2):
            yield f"axis {axis}", lambda n, a=axis: n.attributes.add(ir.AttrInt64("axis", a))
    others = {
        "Div": ("Mul", "Add", "Sub"),
        "Add": ("Sub", "Mul", "Max"),
        "MatMul": ("Add",),
        "IsNaN": ("Not",),
    }
    for op_type in others.get(node.op_type, ()):
        yield op_type, lambda n, o=op_type: setattr(n, "op_type", o)
    if len(node.inputs) >= 2:
        first = len(node.inputs) - 2
        yield "operands swapped", lambda n, i=first: _swap(n, i)


def _swap(node: ir.Node, index: int) -> None:
    one, other = node.inputs[index], node.inputs[index + 1]
    node.replace_input_with(index, other)
    node.replace_input_with(index + 1, one)


def test_a_mutated_graph_is_refused_or_stays_right() -> None:
    """Changing any permutation, axis, size or operator must never be overlooked."""
    fused = right = 0
    feeds = random_feeds(_cube(), {})
    for label, graph in _mutants():
        for value in graph.graph.initializers.values():
            value.shape = ir.Shape(value.const_value.shape)
        try:
            expected = oracle.run(graph, feeds)
        except _NOT_A_MODEL:
            continue
        fused += fuse(graph).matched["heads"]
        actual = oracle.run(graph, feeds)
        np.testing.assert_allclose(actual["y"], expected["y"], rtol=1e-4, atol=1e-5, err_msg=label)
        right += 1
    assert right > 150
    assert 10 < fused < right - 50


def test_the_unmutated_graph_is_fused() -> None:
    """The mutation test starts from a graph that both patterns take."""
    assert fuse(_cube()).matched == {"attention": 1, "heads": 1}
