"""bfloat16 on the CPU: programs run, keep their types, and round where the model itself says so."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch

from optc.codegen.ort import emit
from optc.torch_backend.executable import Executable
from optc.widen import widen

HEADER = '<ir_version: 10, opset_import: ["": 21]> g'
X = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.bfloat16)


def run(tmp_path: Path, text: str, *inputs: torch.Tensor) -> list[torch.Tensor]:
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + text))
    emit.emit(ir.from_proto(proto), tmp_path, {})
    return Executable.open(tmp_path, {"threads": 1})(inputs)


@pytest.mark.parametrize(
    "body,expected",
    [
        ("(bfloat16[1,3] x) => (bfloat16[1,3] y) { y = Exp(x) }", X.float().exp().bfloat16()),
        ("(bfloat16[1,3] x) => (bfloat16[1,3] y) { y = Identity(x) }", X),
        (
            "(bfloat16[1,3] x) => (bfloat16[1,1] y) { m = Mul(x, x) y = ReduceSum(m) }",
            torch.tensor([[14.0]]).bfloat16(),
        ),
        (
            "(bfloat16[1,3] x) => (bfloat16[1,3] y) <bfloat16 w = {2}> { y = Mul(x, w) }",
            X * torch.tensor([2], dtype=torch.int16).view(torch.bfloat16),
        ),
        ("(bfloat16[1,3] x) => (float[1,3] y) { m = Abs(x) y = Cast<to=1>(m) }", X.abs().float()),
        (
            "(bfloat16[1,3] x, bool c) => (bfloat16[1,3] y) "
            "{ y = If(c) <then_branch = t () => (bfloat16[1,3] a) { a = Neg(x) }, "
            "else_branch = e () => (bfloat16[1,3] b) { b = Identity(x) }> }",
            -X,
        ),
    ],
)
def test_programs_compute_and_keep_their_types(tmp_path: Path, body: str, expected: torch.Tensor) -> None:
    inputs = (X, torch.tensor(True)) if "bool c" in body else (X,)
    (actual,) = run(tmp_path, body, *inputs)
    torch.testing.assert_close(actual, expected)


def test_a_cast_of_the_model_rounds(tmp_path: Path) -> None:
    """1 + 2^-10 is no bfloat16: a cast to it and back is 1, though everything else is float32."""
    x = torch.tensor([1 + 2**-10])
    text = "(float[1] x) => (float[1] y) { m = Cast<to=16>(x) n = Add(m, m) y = Cast<to=1>(n) }"
    assert run(tmp_path, text, x)[0].item() == 2.0


def test_other_models_are_left_alone() -> None:
    model = ir.from_proto(onnx.parser.parse_model(HEADER + "(float[3] x) => (float[3] y) { y = Exp(x) }"))
    before = ir.to_proto(model)
    widen(model, ir.DataType.BFLOAT16)
    assert ir.to_proto(model) == before
