"""Types and shapes behind ONNX Runtime's int8 operators are what the runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.session import open_session, run_session

GRID = f"<float s = {{0.1}}, uint8 z = {{3}}, uint8[8,5] w = {{{', '.join('1' * 40)}}}>"
CASES = {
    "float product": ("uint8[N,8] x", "float", "y = com.microsoft.QGemm(x, s, z, w, s, z)"),
    "int8 product": ("uint8[N,8] x", "uint8", "y = com.microsoft.QGemm(x, s, z, w, s, z, , s, z)"),
    "global pool": ("uint8[N,4,6,6] x", "uint8", "y = com.microsoft.QLinearGlobalAveragePool(x, s, z, s, z)"),
    "last": (
        "uint8[N,6,6,4] x",
        "uint8",
        "y = com.microsoft.QLinearGlobalAveragePool<channels_last=1>(x, s, z, s, z)",
    ),
    "pool": (
        "uint8[N,4,6,6] x",
        "uint8",
        "y = com.microsoft.QLinearAveragePool<kernel_shape=[2,2], strides=[2,2]>(x, s, z, s, z)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_inference_agrees_with_the_runtime(name: str) -> None:
    data, result, node = CASES[name]
    text = f"""<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
    g ({data}) => ({result} y) {GRID} {{ {node} }}"""
    proto = onnx.parser.parse_model(text)
    dims = [dim.dim_value or 3 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    model = ir.from_proto(proto)
    session = open_session(model)
    [found] = run_session(session, {"x": np.ones(dims, np.uint8)}).values()
    output = model.graph.outputs[0]
    output.type, output.shape = None, None
    shapes.infer(model)
    assert output.dtype == ir.DataType.from_numpy(found.dtype)
    assert output.shape is not None and output.shape.rank() == found.ndim
    for known, size in zip(output.shape, found.shape, strict=True):
        assert not isinstance(known, int) or known == size
    if name != "pool":
        assert [d for d in output.shape if isinstance(d, int)] == list(found.shape[1:])
