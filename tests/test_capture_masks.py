"""Rows of an attention mask that keep nothing give zeros, as in torch, and other masks cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import optc
from optc.capture import capture


def module(function: Any) -> nn.Module:
    """A module whose forward is ``function``, so that a test can show just that."""
    return type("Small", (nn.Module,), {"forward": function})()


MASKED = torch.ones(2, 1, 5, 7, dtype=torch.bool)
MASKED[0, :, 2], MASKED[1, :, :, 4:] = False, False


ADDED = torch.zeros(MASKED.shape).masked_fill(~MASKED, -torch.inf)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("mask", [MASKED, ADDED], ids=["boolean", "float"])
def test_rows_of_a_mask_that_keep_nothing_give_zeros(mask: torch.Tensor, groups: int, level: int) -> None:
    """The exporter's own translation gives them the mean of all values, or NaN; padding leaves such rows."""

    def forward(self: nn.Module, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, 2 * k, mask, enable_gqa=groups > 1)

    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 4 // groups, 7, 8)
    made = module(forward)
    artifact = optc.compile(made, (q, k, mask), level=level, gate=False)
    expected = made(q, k, mask)
    assert not expected[0, :, 2].any()
    torch.testing.assert_close(artifact(q, k, mask), expected)
    assert (artifact.report["final"]["error"] or {}).get("rel_l2", 0) < 1e-5


@pytest.mark.parametrize("kind", [torch.bool, torch.float32], ids=str)
def test_sequences_that_are_all_padding(kind: torch.dtype) -> None:
    """torch's own layers: NaN would spread from the padded sequence through every layer behind."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
            return self.encoder(x, src_key_padding_mask=padding)

    x, padded = torch.randn(3, 5, 16), torch.zeros(3, 5, dtype=torch.bool)
    padded[1], padded[2, 3:] = True, True
    padding = padded if kind == torch.bool else torch.zeros(3, 5).masked_fill(padded, -torch.inf)
    with torch.enable_grad():  # without gradients eager mode takes another way, which gives NaN
        expected = Encoder()(x, padding).detach()
    assert expected.isfinite().all()
    artifact = optc.compile(Encoder(), (x, padding), gate=False)
    torch.testing.assert_close(artifact(x, padding), expected, rtol=1e-4, atol=1e-5)


def guards(forward: Callable[..., torch.Tensor], **buffers: torch.Tensor) -> int:
    """How many replacements of NaN the captured module has; it is called with q, k and a mask."""
    made = module(forward)
    for name, value in buffers.items():
        made.register_buffer(name, value)
    q = torch.randn(2, 4, 5, 8)
    captured = capture(made, (q, torch.randn(2, 4, 7, 8), MASKED))
    return sum(node.op_type == "IsNaN" for node in captured.model.graph)


def test_masks_that_keep_something_in_every_row_cost_nothing() -> None:
    """Learned biases, finite fills and constant masks; but not unknown masks, nor what the user wrote."""
    attend = nn.functional.scaled_dot_product_attention

    def biased(self: Any, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return attend(q, k, k, self.bias)

    def filled(self: Any, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        low = torch.finfo(torch.float32).min
        return attend(q, k, k, (1.0 - mask.to(torch.float32)) * low + self.bias)

    def unknown(self: Any, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return attend(q, k, k, mask)

    def own(self: Any, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = (q @ k.transpose(2, 3) + self.bias).softmax(-1)
        return torch.where(weights.isnan(), 0.0, weights) @ k

    bias = torch.randn(4, 5, 7)
    causal = torch.ones(5, 7, dtype=torch.bool).tril()
    assert guards(biased, bias=bias) == 0
    assert guards(biased, bias=causal) == 0
    assert guards(biased, bias=bias.masked_fill(~causal, -torch.inf)) == 0
    assert guards(filled, bias=torch.full((4, 5, 7), -1e38)) == 1  # with the lowest number that is -inf
    assert guards(filled, bias=torch.zeros(4, 5, 7)) == 0
    assert guards(unknown) == 1
    assert guards(biased, bias=causal.roll(1, 0)) == 0
    assert guards(biased, bias=causal & ~causal) == 1
    assert guards(own, bias=bias) == 1


@pytest.mark.parametrize("given", [False, True], ids=["made inside", "given"])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32], ids=str)
def test_layers_that_look_whether_a_mask_is_causal(kind: torch.dtype, given: bool) -> None:
    """With a dynamic length, or a mask that is an input, a trace has no answer for them."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()

    def causal(length: int) -> torch.Tensor:
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        return mask if kind == torch.bool else torch.zeros(length, length).masked_fill(mask, -torch.inf)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.encoder(x, mask=causal(x.shape[1]) if mask is None else mask)

    def arguments(length: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(2, length, 16), *([causal(length)] if given else []))

    shapes = {"x": {1: "length"}, "mask": {0: "length", 1: "length"}}
    if not given:
        del shapes["mask"]
    artifact = optc.compile(Encoder(), arguments(5), dynamic_shapes=shapes, gate=False)
    other = arguments(7)
    if given:
        other[1][0, 1] = causal(7)[1, 0]  # one that is not causal
    torch.testing.assert_close(artifact(*other), Encoder()(*other).detach(), rtol=1e-4, atol=1e-5)
