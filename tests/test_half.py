"""Models in half precision compute in float32 on a target without half-precision kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import optc
from optc import half
from optc.difference import EXACT_TOLERANCE
from optc.targets.cpu import TARGET

HEADER = '<ir_version: 10, opset_import: ["": 20]> g'
F16 = ir.DataType.FLOAT16


class Layer(nn.Module):
    """One layer of a transformer as it is often written: norms that compute in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(32) + 0.5)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.gamma
        q, k, v = (t.view(2, 6, 4, 8).transpose(1, 2) for t in self.qkv(normed).chunk(3, -1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 6, 32)
        return self.norm(nn.functional.gelu(x + self.out(attended)))


def matched(report: dict[str, Any]) -> dict[str, int]:
    return {name: n for entry in report["passes"] for name, n in entry["matched"].items()}


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + text)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_half_module_fuses_as_in_float_and_keeps_its_types(dtype: torch.dtype, tmp_path: Path) -> None:
    """Attention, norms and activations are recognised; the answer is nearer to that in float than eager's."""
    torch.manual_seed(0)
    layer, x = Layer().eval().to(dtype), torch.randn(2, 6, 32).to(dtype)
    artifact = optc.compile(layer, x, gate=False, output=tmp_path / "a")
    with torch.no_grad():
        eager, actual = layer(x), artifact(x)
        exact = layer.float()(x.float())
    assert actual.dtype == dtype
    assert (actual.float() - exact).norm() <= (eager.float() - exact).norm()
    done = matched(artifact.report)
    assert {"attention", "rms_norm", "layer_norm", "gelu"} <= set(done)
    assert not any(entry.get("reverted") for entry in artifact.report["passes"])
    assert set(artifact.report["widened"]) == {str(dtype).removeprefix("torch.")}
    graph = onnx.load(tmp_path / "a" / "model.onnx").graph
    sizes = {t.name: len(t.raw_data) for t in graph.initializer if len(t.dims) == 2}
    assert sum(sizes.values()) == 2 * (32 * 96 + 32 * 32), "weights stay in half precision in the file"


MIXED = """(float[2, 16] x) => (float[2, 16] y) {
    h = Cast<to=10>(x)
    a = Mul(h, h)
    wide = Cast<to=1>(a)
    s = Softmax(wide)
    narrow = Cast<to=10>(s)
    b = Sqrt(narrow)
    y = Cast<to=1>(b)
}"""


def test_float_outputs_of_a_half_model_are_held_to_its_precision() -> None:
    """As converters write such files: float inputs and outputs, casts around what stays in float."""
    x = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    model = model_of(MIXED)
    assert half.tolerances(model) == {"y": EXACT_TOLERANCE[F16]}
    artifact = optc.compile(model, gate=False)
    assert artifact.report["widened"] == {"float16": 2}
    assert not any(entry.get("reverted") for entry in artifact.report["passes"])
    scores = np.exp(x * x)
    exact = np.sqrt(scores / scores.sum(-1, keepdims=True))
    np.testing.assert_allclose(artifact.run({"x": x})["y"], exact, rtol=2e-6)


def test_outputs_that_no_half_operator_touches_stay_exact() -> None:
    model = model_of(
        "(float16[3] h, float[3] x) => (float[3] y, float[3] z) "
        "{ a = Exp(h) y = Cast<to=1>(a) r = Cast<to=10>(x) z = Cast<to=1>(r) }"
    )
    assert half.tolerances(model) == {"y": EXACT_TOLERANCE[F16]}


def test_a_model_that_only_rounds_to_half_goes_on_rounding() -> None:
    model = model_of("(float[1] x) => (float[1] y) { h = Cast<to=10>(x) r = Cast<to=1>(h) y = Add(r, r) }")
    assert half.in_single(model, TARGET) is None
    actual = optc.compile(model, gate=False).run({"x": np.array([1 + 2**-12], np.float32)})["y"]
    assert actual == [2.0]


def test_what_overflows_in_half_precision_still_does() -> None:
    """The answers of the captured model hold, also where float32 could do better."""
    text = "(float[2] x) => (float[2] y) { h = Cast<to=10>(x) t = Concat<axis=0>(h) y = Cast<to=1>(t) }"
    model = model_of(text)  # the runtime has a kernel of Concat; before others it takes such casts away
    feeds = {"x": np.array([2, 70000], np.float32)}
    artifact = optc.compile(model, inputs=feeds, gate=False)
    assert "infinity" in artifact.report["widened"]["stopped"]
    assert artifact.run(feeds)["y"].tolist() == [2, np.inf]


BRANCHES = """(float16[3] x, bool c) => (float16[3] y) <float16[3] w = {15360, 16384, 16896}> {
    a = Mul(x, w)
    b = If(c) <then_branch = t () => (float16[3] p) { p = Exp(a) },
               else_branch = e () => (float16[3] q) { q = Identity(w) }>
    y = Neg(b)
}"""


@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs(condition: bool) -> None:
    """Branches hand half precision on; weights that they return keep their type."""
    x = np.array([1, 0.5, -1], np.float16)
    feeds = {"x": x, "c": np.array(condition)}
    artifact = optc.compile(model_of(BRANCHES), inputs=feeds, gate=False)
    w = np.array([1, 2, 3], np.float32)  # whose bits are in the text
    expected = -np.exp(x * w) if condition else -w
    actual = artifact.run(feeds)["y"]
    assert "stopped" not in artifact.report["widened"] and actual.dtype == np.float16
    np.testing.assert_allclose(actual, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "(float[3] x) => (float[3] y) { y = Exp(x) }",
        "(float16[3] x) => (float16[3] y) { s = SequenceConstruct(x) i = Constant<value_int=0>() "
        "a = SequenceAt(s, i) y = Exp(a) }",
    ],
    ids=["float", "sequence"],
)
def test_models_that_stay_as_they_are(text: str) -> None:
    assert half.in_single(model_of(text), TARGET) is None


def test_a_target_that_computes_in_half_precision_gets_the_model_as_it_is() -> None:
    model = model_of("(float16[3] x) => (float16[3] y) { y = Exp(x) }")
    assert half.in_single(model, TARGET) is not None
    assert half.in_single(model, replace(TARGET, precisions=frozenset({F16}))) is None
