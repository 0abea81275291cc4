"""What the runtime supports is what it says, not what we believe."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime
import pytest

from optc.codegen.ort import kernels

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def test_kernels_by_type_and_version() -> None:
    assert kernels.has_kernel("", "MatMul", 18, {"T": FLOAT})
    assert not kernels.has_kernel("", "MatMul", 18, {"T": HALF})
    assert kernels.has_kernel("ai.onnx", "Gelu", 20)
    assert not kernels.has_kernel("", "Gelu", 19)
    assert not kernels.has_kernel("", "MatMul", 18, {"T": ir.DataType.FLOAT8E4M3FN})


@pytest.mark.parametrize("op,version", [("Relu", 13), ("Swish", 24), ("GroupNormalization", 21)])
def test_legal_by_kernel_or_by_body(op: str, version: int) -> None:
    assert kernels.why_illegal("", op, version) is None


def test_illegal_operators_are_named_with_the_runtime_and_opset() -> None:
    reason = kernels.why_illegal("", "Nonsense", 18)
    assert reason == f"ONNX Runtime {onnxruntime.__version__} does not know ai.onnx.Nonsense at opset 18"
    assert "does not know" in str(kernels.why_illegal("my.domain", "Relu", 1))


def test_activations_that_kernels_take_are_tried() -> None:
    assert kernels.takes_activation("FusedGemm", (("activation", "Relu"),))
    assert not kernels.takes_activation("FusedGemm", (("activation", "Mish"),))
    assert kernels.takes_activation("FusedConv", (("activation", "Clip"), ("activation_params", (0.0, 6.0))))


def test_newest_ir_version_is_the_last_that_loads() -> None:
    newest = kernels.newest_ir_version()
    assert newest >= 10
    assert not kernels._loads(newest + 1)
