"""Types and shapes behind ONNX Runtime's own operators are what the runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc.analysis import shapes
from optc.session import open_session, run_session

RNG = np.random.default_rng(0)
GRID = {
    "s": np.float32(0.1),
    "z": np.uint8(3),
    "i": np.int8(0),
    "w": RNG.integers(-9, 9, (8, 5)).astype(np.int8),
}
GATES = {
    "g": RNG.integers(-9, 9, (2, 8, 24)).astype(np.int8),
    "r": RNG.integers(-9, 9, (2, 6, 24)).astype(np.int8),
    "gs": np.full(2, 0.1, np.float32),
    "gz": np.zeros(2, np.int8),
}
LSTM = "(x, g, r, , , , , , gs, gz, gs, gz)"
TABLE = {"t": RNG.integers(0, 9, (7, 32)).astype(np.uint8), "ts": np.ones((7, 2), np.float32)}
CASES = {
    "dynamic": ("float[B,S,8]", "y = com.microsoft.DynamicQuantizeMatMul(x, w, s)", GRID, (2,)),
    "integers": ("uint8[B,S,8]", "y = com.microsoft.MatMulIntegerToFloat(x, w, s, s, z, i)", GRID, (2,)),
    "quantized": ("float[B,8]", "y = com.microsoft.QuantizeLinear(x, s, z)", GRID, (1,)),
    "and back": ("uint8[B,8]", "y = com.microsoft.DequantizeLinear(x, s, z)", GRID, (1,)),
    "gemm": (
        "float[B,8]",
        'y = com.microsoft.FusedGemm <activation = "Relu"> (x, v)',
        {"v": np.ones((8, 5), np.float32)},
        (1,),
    ),
    "conv": (
        "float[B,3,6,6]",
        'y = com.microsoft.FusedConv <activation = "Relu"> (x, k)',
        {"k": np.ones((4, 3, 3, 3), np.float32)},
        (1, 2, 3),
    ),
    "states": (
        "float[S,B,8]",
        f'y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 6, direction = "bidirectional"> {LSTM}',
        GATES,
        (1, 3),
    ),
    "table": (
        "int64[B,3]",
        "y = com.microsoft.GatherBlockQuantized <block_size = 16, quantize_axis = 1, bits = 8> (t, x, ts)",
        TABLE,
        (),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_inference_agrees_with_the_runtime(name: str) -> None:
    data, node, constants, known = CASES[name]
    text = f"""<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
    g ({data} x) => (float y) {{ {node} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.Clear()
    for key, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), key))
    kind = proto.graph.input[0].type.tensor_type
    dims = [dim.dim_value or 3 for dim in kind.shape.dim]
    feeds = {"x": np.ones(dims, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))}
    model = ir.from_proto(proto)
    [found] = run_session(open_session(model), feeds).values()
    output = model.graph.outputs[0]
    shapes.infer(model)
    assert output.dtype == ir.DataType.from_numpy(found.dtype)
    assert output.shape is not None and output.shape.rank() == found.ndim
    assert {axis: dim for axis, dim in enumerate(output.shape) if isinstance(dim, int)} == {
        axis: found.shape[axis] for axis in known
    }
