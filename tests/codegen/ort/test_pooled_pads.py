"""What is written computes Pad and MaxPool as the model says, whatever the runtime's optimizer does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from optc import oracle
from optc.codegen.ort import emit

BETWEEN = {
    "nothing": "p = Identity(q)",
    "cast": "p = Cast<to=11>(q)",
    "reshape": "s = Constant<value_ints=[0, 0, 8, 8]>() p = Reshape(q, s)",
}


def model(version: int, between: str = "nothing", pool: str = "MaxPool") -> ir.Model:
    result = "double" if between == "cast" else "float"
    return ir.from_proto(
        onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["": {version}]>
            g (float[1,3,6,6] x) => ({result}[1,3,H,W] y) <int64[8] amounts = {{0,0,1,1,0,0,1,1}}> {{
              q = Pad(x, amounts) {BETWEEN[between]}
              y = {pool}<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(p) }}"""
        )
    )


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("version", [11, 13, 18, 21, 24])
def test_negative_values_keep_the_zeros_around_them(version: int, between: str, tmp_path: Path) -> None:
    made = model(version, between)
    x = -1 - np.abs(np.random.default_rng(0).standard_normal((1, 3, 6, 6), np.float32))
    expected = oracle.run(made, {"x": x})["y"]
    assert (expected == 0).any()
    emit.emit(made, tmp_path, {})
    session = ort.InferenceSession(tmp_path / "model.onnx")  # at the runtime's default optimizations
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)


def test_pads_that_the_runtime_folds_rightly_are_left_to_it(tmp_path: Path) -> None:
    emit.emit(model(24, pool="AveragePool"), tmp_path, {})
    (pad,) = (node for node in onnx.load(tmp_path / "model.onnx").graph.node if node.op_type == "Pad")
    assert len(pad.input) == 2
