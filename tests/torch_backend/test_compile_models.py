"""Whole models as people write them, small; everything in them is captured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from side_by_side import agree, captured, same
from torch import nn

from optc.torch_backend import stats

TOKENS = torch.rand(2, 5, 16, generator=torch.Generator().manual_seed(1)) - 0.5
PADDED = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 1, 1, 1]], dtype=torch.bool)


def encoder(**options: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}])
def test_the_fast_path_of_encoders(options: dict[str, Any]) -> None:
    captured(encoder(**options), (TOKENS,), (TOKENS[:, :3],))


def test_the_fast_path_with_masks() -> None:
    model = encoder()
    causal = nn.Transformer.generate_square_subsequent_mask(5)

    def function(x: Any, padded: Any, mask: Any) -> Any:
        return model(x, src_key_padding_mask=padded), model(x, mask=mask, is_causal=True)

    captured(function, (TOKENS, PADDED, causal))


def test_attention_and_decoders() -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 1).eval()

    def function(x: Any) -> Any:
        return attention(x, x, x), attention(x, x[:, :2], x[:, :2], need_weights=False), decoder(x, x[:, :3])

    captured(function, (TOKENS,))


class Residual(nn.Module):
    """A convolution net with everything that they have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.stem(image), 2)
        y = self.deep(x)
        x = torch.relu(x + y * self.gate(y))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_convolutions(form: torch.memory_format) -> None:
    images = torch.rand(2, 3, 16, 16).to(memory_format=form)
    captured(Residual().to(memory_format=form).eval(), (images,))


def test_recurrent_layers_are_left_to_torch() -> None:
    """Dynamo makes no graph of them."""
    model = nn.LSTM(16, 8, 2, batch_first=True).eval()
    found = agree(lambda x: model(x), (TOKENS,))
    assert (found.graphs, found.fallbacks) == (0, 0)


def test_recurrent_layers_that_torch_lets_through_are_captured() -> None:
    model = nn.LSTM(16, 8, 2, batch_first=True, bidirectional=True).eval()
    with torch._dynamo.config.patch(allow_rnn=True):
        captured(lambda x: model(x), (TOKENS,), (TOKENS[:, :3],))


def test_a_decoder_with_a_cache_writes_it_in_place() -> None:
    """The keys of each step go into a buffer that the caller owns."""
    project = nn.Linear(16, 16)

    def step(x: Any, keys: Any, place: Any) -> Any:
        keys.index_copy_(1, place, project(x))
        return nn.functional.scaled_dot_product_attention(x, keys, keys)

    keys = torch.zeros(2, 5, 16)
    captured(step, *((TOKENS[:, i : i + 1], keys, torch.tensor([i])) for i in range(3)))


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="torch 2.11 breaks graphs at the fast path of nn.TransformerEncoder",
)
def test_the_example_runs() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "torch_compile.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "four shapes: 3 graphs, 4 artifact calls, 0 recompiles, 0 fallbacks" in done.stdout
    assert "draws random numbers" in done.stdout


@pytest.mark.slow
def test_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "examples"))
    import minilm

    model = minilm.encoder()[0].eval()
    compiled = torch.compile(model, backend="optc")
    with torch.inference_mode():
        for texts in (["one"], ["a few words", "and somewhat more words than that", "x"], ["a", "b b b"]):
            inputs = {name: torch.from_numpy(value) for name, value in minilm.tokenize(texts).items()}
            torch.testing.assert_close(compiled(**inputs), model(**inputs), rtol=0, atol=1e-4)
        model.transformer.encoder.layer[0].output.dense.weight.mul_(1.5)
        torch.testing.assert_close(compiled(**inputs), model(**inputs), rtol=0, atol=1e-4)
    assert stats().fallbacks == 0 and stats().artifact_calls == 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_dropout_that_is_switched_off_draws_nothing(mode: Any) -> None:
    """In inference mode torch leaves the operator in the graph."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.1), torch.nn.Linear(4, 2)).eval()
    compiled, x = torch.compile(module, backend="optc"), torch.randn(3, 4)
    with mode():
        same(compiled(x), module(x))
    assert stats().fallbacks == 0 and stats().artifact_calls == 1
