"""A model's products with constant weights and nothing else: the bound of what keeps them as they are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def alone(model: onnx.ModelProto, ids: str) -> onnx.ModelProto:
    """MatMuls with random weights of the shapes that `model` multiplies by, one behind the other.

    Each reads the newest value of its width [batch, seq, K], so the runtime can drop none; the first are
    rows of a table, picked by the integer input `ids` [batch, seq]. No bias, no activation, no attention.
    """
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = [stored[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in stored]
    random = np.random.default_rng(0)
    weights, nodes, newest = [], [], {}

    def weight(name: str, shape: tuple[int, ...]) -> str:
        values = random.standard_normal(shape, np.float32) / np.float32(shape[0]) ** 0.5
        weights.append(numpy_helper.from_array(values, name))
        return name

    for i, (width, columns) in enumerate(shapes):
        if width not in newest:
            nodes.append(
                helper.make_node("Gather", [weight(f"table_{width}", (30522, width)), ids], [f"rows_{width}"])
            )
            newest[width] = f"rows_{width}"
        nodes.append(
            helper.make_node("MatMul", [newest[width], weight(f"w{i}", (width, columns))], [f"y{i}"])
        )
        newest[columns] = f"y{i}"
    read = {name for node in nodes for name in node.input}
    unread = [name for node in nodes for name in node.output if name not in read]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info(ids, onnx.TensorProto.INT64, ["batch", "seq"])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "seq", None])
            for name in unread
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
