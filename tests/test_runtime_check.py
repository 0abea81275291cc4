"""What ONNX Runtime says of a model's types is the model's fault, unless it is about nodes of its own."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from optc.capture.runtime_check import check_types
from optc.errors import InvalidModel

MODEL = '<ir_version: 10, opset_import: ["": 20]> g (float[3] x) => (float[3] y) { y = Exp(x) }'


@pytest.mark.parametrize("name,refused", [("InsertedPrecisionFreeCast_k", False), ("k", True)])
def test_a_cast_that_the_runtime_inserted(name: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.30 does that to some models in half precision, and finds its own node badly typed."""

    def session(*args: Any, **kwargs: Any) -> None:
        raise ort_state.Fail(f"Type Error: Type (tensor(float)) of output arg ({name}) of node (Cast) ...")

    monkeypatch.setattr(ort, "InferenceSession", session)
    model = ir.from_proto(onnx.parser.parse_model(MODEL))
    if not refused:
        check_types(model, "m.onnx")
        return
    with pytest.raises(InvalidModel, match="finds the model invalid"):
        check_types(model, "m.onnx")
