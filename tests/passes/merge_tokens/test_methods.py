"""merge-tokens with methods that choose tokens by attention, against the same written down in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from capture_once import capture_once
from vision import CONFIG, pixels, split, vit

import optc
from optc.errors import UserError

Choice = Callable[..., Any]
HEADS = CONFIG["num_attention_heads"]


def probabilities(q: torch.Tensor, k: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + size.log()[:, None, None, :, 0]
    return scores.softmax(-1)


def best(total: torch.Tensor, count: int) -> torch.Tensor:
    """The places of the ``count`` largest behind the first token, in order, [B, count]."""
    return total[:, 1:].topk(count).indices.sort().values + 1


def pick(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return torch.stack([sample[place] for sample, place in zip(x, places, strict=True)])


def dropped(score: str) -> Choice:
    def choose(x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, size: torch.Tensor, left: int) -> Any:
        plain = probabilities(q, k, torch.ones_like(size))
        total = (plain[:, :, :1] if score == "class" else plain).sum((1, 2))
        kept = best(total, left)
        return torch.cat([x[:, :1], pick(x, kept)], 1), torch.ones(len(x), left + 1, 1)

    return choose


def mixed(x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, size: torch.Tensor, left: int) -> Any:
    kept = best(probabilities(q, k, torch.ones_like(size)).sum((1, 2)), left)
    unit = torch.nn.functional.normalize(k.mean(1), dim=-1)
    likeness = pick(unit, kept) @ unit[:, 1:].transpose(1, 2) / 0.1 + size[:, 1:].log().transpose(1, 2)
    m = likeness.softmax(-1)
    sizes = (m / m.sum(1, keepdim=True)) @ size[:, 1:]
    return torch.cat([x[:, :1], m @ x[:, 1:]], 1), torch.cat([size[:, :1], sizes], 1)


def reduced(module: Any, x: torch.Tensor, choose: Choice, lefts: list[int | None]) -> torch.Tensor:
    """Logits of a ViT that goes on with the class token and so many others behind each attention."""
    tokens = module.vit.embeddings(x)
    size = torch.ones(*tokens.shape[:2], 1)
    for layer, left in zip(module.vit.layers, lefts, strict=True):
        h, a = layer.layernorm_before(tokens), layer.attention
        q, k, v = (split(f(h), HEADS) for f in (a.q_proj, a.k_proj, a.v_proj))
        tokens = tokens + a.o_proj((probabilities(q, k, size) @ v).transpose(1, 2).flatten(2))
        if left is not None:
            tokens, size = choose(tokens, q, k, size, left)
        tokens = tokens + layer.mlp(layer.layernorm_after(tokens))
    return module.classifier(module.vit.layernorm(tokens)[:, 0])


@pytest.mark.parametrize(
    ("options", "choose", "lefts"),
    [
        ("method=prune, r=3", dropped("received"), [13, 10, 7]),
        ("method=prune, keep=0.5, score=class", dropped("class"), [8, 4, 2]),
        ('method=pyramid, layers="0-1"', dropped("received"), [8, 4, None]),
        ('method=transform, layers="0-1"', mixed, [8, 4, None]),
    ],
)
def test_methods_equal_the_same_written_down(options: str, choose: Choice, lefts: list[int | None]) -> None:
    module, x = vit(), pixels(2)
    pipeline = f"simplify, merge-tokens{{{options}}}, fuse"
    artifact = optc.compile(capture_once(module, (x,)), pipeline=pipeline)
    with torch.no_grad():
        expected, full = reduced(module, x, choose, lefts), module(x).logits
    assert (artifact(x).logits - expected).norm() / expected.norm() < 1e-4
    assert (full - expected).norm() / expected.norm() > 1e-2


@pytest.mark.parametrize("options", ["r=2, keep=0.5", "keep=1.5", "keep=0", "temperature=0"])
def test_contradictions_are_refused(options: str) -> None:
    with pytest.raises(UserError):
        optc.compile(capture_once(vit(), (pixels(1),)), pipeline=f"merge-tokens{{{options}}}")
