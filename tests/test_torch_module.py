"""to_module gives a torch module that computes the same, can be trained, and refuses what it cannot say."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import optc
from optc import oracle, values
from optc.capture.signature import Signature
from optc.errors import UserError
from optc.torch_module import OptimizedModule

sys.path.insert(0, str(Path(__file__).parent))
import backend_suite


class Block(nn.Module):
    """A causal transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.first(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return {"hidden": self.second(x + self.mlp(x))}


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 3, stride=2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip


def compiled(module: nn.Module, x: torch.Tensor) -> optc.Artifact:
    return optc.compile(module, (x,), pipeline="simplify, fuse")


def test_transformer_computes_the_same_and_keeps_its_structure() -> None:
    torch.manual_seed(0)
    module, x = Block().eval(), torch.randn(2, 5, 16)
    twin = optc.to_module(compiled(module, x))
    torch.testing.assert_close(twin(x)["hidden"], module(x)["hidden"], rtol=1e-4, atol=1e-5)


def test_cnn_computes_the_same() -> None:
    torch.manual_seed(0)
    module, x = cnn().eval(), torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(optc.to_module(compiled(module, x))(x), module(x), rtol=1e-4, atol=1e-5)


def test_training_changes_the_weights_and_lowers_the_loss() -> None:
    torch.manual_seed(0)
    x, wanted = torch.randn(8, 3, 12, 12), torch.randn(8, 5)
    twin = optc.to_module(compiled(cnn().eval(), x))
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        loss = nn.functional.mse_loss(twin(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in twin.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_trained_module_compiles_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16)
    compiled(Block().eval(), x).save(tmp_path / "a")
    twin = optc.to_module(optc.load(tmp_path / "a"))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    again = compiled(twin, x)
    torch.testing.assert_close(again(x)["hidden"], twin(x)["hidden"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_masked_grouped_attention_computes_the_same_and_has_gradients(heads: int) -> None:
    """Rows that mask every key among them: 0 in the runtime's kernel, and no NaN in a gradient."""
    text = f"""<ir_version: 10, opset_import: ["": 24]>
    g (float[2,3,16] q, float[2,5,K] k, float[2,5,K] v, bool[2,1,3,5] m) => (float[2,3,16] y) {{
      y = Attention<q_num_heads=4, kv_num_heads={heads}, softcap=2.0, is_causal=1>(q, k, v, m) }}"""
    proto = onnx.parser.parse_model(text)
    twin = OptimizedModule(ir.from_proto(proto), Signature.of_names(["q", "k", "v", "m"], ["y"]))
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 16), torch.randn(2, 5, 4 * heads), torch.randn(2, 5, 4 * heads)
    mask = torch.rand(2, 1, 3, 5) < 0.6
    mask[0, 0, 1] = False
    feeds = {"q": q, "k": k, "v": v, "m": mask}
    (expected,) = oracle.run(ir.from_proto(proto), {n: x.numpy() for n, x in feeds.items()}).values()
    given = twin(q.requires_grad_(), k, v, mask)
    torch.testing.assert_close(given, torch.from_numpy(expected), rtol=1e-4, atol=1e-6)
    given.sum().backward()
    assert q.grad is not None and q.grad.isfinite().all()


def test_operators_without_translation_are_all_named() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[N] x) => (float[N] y) { a = BitShift<direction="LEFT">(x, x) b = Hardmax(a) y = Hardmax(b) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    with pytest.raises(UserError, match=r"BitShift \(1\), Hardmax \(2\)"):
        OptimizedModule(model, Signature.of_names(["x"], ["y"]))


# Torch lacks kernels for these types, or they have no torch type.
_TYPES = ("uint16", "uint32", "uint64", "string", "UINT", "INT4", "INT2", "FLOAT8", "FLOAT4", "E8M0", "uint8")
_OTHER = ("identity_opt", "identity_sequence", "flexattention", "empty_set", "PReLU_", "operator_index")


@pytest.mark.slow
def test_conformance_of_every_translated_operator() -> None:
    wrong, right = [], 0
    for case in backend_suite.iter_cases(("node", "pytorch-operator", "pytorch-converted")):
        if any(mark in case.name for mark in (*_TYPES, *_OTHER)):
            continue
        model = ir.from_proto(case.proto)
        names = [str(v.name) for v in model.graph.inputs if v.name not in model.graph.initializers]
        try:
            twin = OptimizedModule(
                model, Signature.of_names(names, [str(v.name) for v in model.graph.outputs])
            )
            feeds, expected = case.data_sets[0]
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = twin(*(values.to_torch(np.array(feeds[name])) for name in names))
        except UserError:
            continue
        given = given if isinstance(given, tuple) else (given,)
        same = all(_same(values.to_numpy(g), e) for g, e in zip(given, expected, strict=True))
        right += same
        if not same:
            wrong.append(case.name)
    assert not wrong
    assert right > 500


def _same(given: np.ndarray, expected: np.ndarray) -> bool:
    if (given.shape, given.dtype) != (expected.shape, expected.dtype):
        return False
    numbers = (given.astype(np.complex128), expected.astype(np.complex128))
    half = expected.dtype in (np.float16, ml_dtypes.bfloat16)  # sums in another order round to a neighbour
    rtol = 2 * float(ml_dtypes.finfo(expected.dtype).eps) if half else 1e-3
    return np.allclose(*numbers, rtol=rtol, atol=1e-5, equal_nan=True)
