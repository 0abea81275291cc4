"""What is equal after fusing is computed once; what only looks equal is not."""

from __future__ import annotations

import onnx_ir as ir

from optc import registry
from optc.passbase import Context
from optc.passes.fuse import Fuse

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x) => (float[2,3] y, float[2,3] z) <float half={0.5}, float root={1.4142135}, float one={1.0}> {
    a = %s (x)  b = %s (x)  y = Sub (a, b)
    d = Div (x, root)  e = Erf (d)  f = Add (e, one)  g = Mul (x, f)  z = Mul (g, half)
}"""


def fuse(model: ir.Model) -> None:
    report = Fuse().run(model, Context(target=registry.find_target("cpu")))
    assert report.matched == {"gelu": 1}


def operators(text: str) -> list[str]:
    model = ir.from_onnx_text(text)
    fuse(model)
    return [node.op_type for node in model.graph]


def test_equal_nodes_are_merged() -> None:
    assert operators(TEXT % ("Exp", "Exp")) == ["Exp", "Sub", "Gelu"]


def test_two_draws_stay_two() -> None:
    assert operators(TEXT % ("Bernoulli", "Bernoulli")) == ["Bernoulli", "Bernoulli", "Sub", "Gelu"]


def test_zeros_of_two_signs_stay_apart() -> None:
    text = TEXT % ("ThresholdedRelu <alpha = 0.0>", "ThresholdedRelu <alpha = -0.0>")
    assert operators(text).count("ThresholdedRelu") == 2
