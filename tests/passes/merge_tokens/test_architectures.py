"""merge-tokens on encoders of known families: right at any batch size, or refused with the true reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from architectures import CASES
from capture_once import capture_once
from vision import pixels

import optc


def first(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


METHODS = {
    "tome": ("r=3", [3, 3, 3]),
    "prune": ("method=prune, r=3", [3, 3, 3]),
    "pyramid": ("method=pyramid, keep=0.7", [0, 0.7, 0.7]),
    "transform": ("method=transform, keep=0.7", [0, 0.7, 0.7]),
}
SLOW = [(name, method) for name in CASES for method in METHODS if method != "tome" and name != "bert"]
FAST = [(name, "tome") for name in CASES] + [("bert", method) for method in METHODS if method != "tome"]


def check(case: Any, artifact: Any, given: Any, method: str) -> None:
    amounts = METHODS[method][1]
    with torch.no_grad():
        expected = case.expected(given, amounts, method=method)
        actual, full = first(artifact(*given)), first(case.module(*given))
    if len(given) == 2:  # what padding computes is of no use to anyone
        actual, expected, full = (x[given[1] == 1] for x in (actual, expected, full))
    assert (actual - expected).norm() / expected.norm() < 1e-4
    assert (full - expected).norm() / expected.norm() > 1e-2


@pytest.mark.parametrize(
    ("name", "method"), FAST + [pytest.param(*each, marks=pytest.mark.slow) for each in SLOW]
)
def test_known_encoders_equal_the_same_by_hand_at_any_batch_size(name: str, method: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    batch = torch.export.Dim("batch")
    inputs = case.inputs(2)
    shapes = tuple({0: batch} for _ in inputs)
    pipeline = f"simplify, merge-tokens{{{METHODS[method][0]}}}, fuse"
    artifact = optc.compile(capture_once(case.module, inputs, shapes, name=name), pipeline=pipeline)
    row = artifact.report["passes"][1]
    [stream] = row["detail"]["streams"]
    assert stream["protected"] == case.protected
    for size in (1, 3):
        check(case, artifact, case.inputs(size), method)


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_tokens_and_samples_with_padding(method: str) -> None:
    torch.manual_seed(0)
    case = CASES["bert"]()
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", min=4, max=60)
    inputs = case.inputs(2)
    captured = capture_once(case.module, inputs, tuple({0: batch, 1: tokens} for _ in inputs))
    artifact = optc.compile(captured, pipeline=f"simplify, merge-tokens{{{METHODS[method][0]}}}, fuse")
    short = tuple(x[:, :11] for x in case.inputs(1))
    for given in (case.inputs(1), case.inputs(3), short):
        check(case, artifact, given, method)


def test_what_padding_holds_changes_nothing() -> None:
    torch.manual_seed(0)
    case = CASES["bert"]()
    ids, mask = case.inputs(2)
    artifact = optc.compile(case.module, (ids, mask), pipeline="simplify, merge-tokens{r=3}, fuse")
    other = torch.where(mask == 1, ids, (ids + 31) % 100)
    real = mask == 1
    torch.testing.assert_close(first(artifact(other, mask))[real], first(artifact(ids, mask))[real])


def _gpt2() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, use_cache=False)
    return hf.GPT2Model(config).eval(), (torch.randint(0, 100, (1, 12)),)


def _swin() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = hf.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return hf.SwinModel(config).eval(), (pixels(1),)


def _clip_text() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = hf.CLIPTextConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100,
        max_position_embeddings=32, bos_token_id=98, eos_token_id=99,
    )  # fmt: skip
    return hf.CLIPTextModel(config).eval(), (torch.randint(0, 98, (1, 12)),)


@pytest.mark.parametrize(
    ("build", "reason"),
    [(_gpt2, "causal"), (_clip_text, "causal"), (_swin, "windows")],
    ids=["gpt2", "clip text", "swin"],
)
def test_what_cannot_be_right_is_refused_with_the_reason(build: Any, reason: str) -> None:
    torch.manual_seed(0)
    module, inputs = build()
    artifact = optc.compile(module, inputs, pipeline="simplify, merge-tokens{r=2}, fuse")
    row = artifact.report["passes"][1]
    assert not row["changed"] and row["skipped"]
    assert all(reason in skip["reason"] for skip in row["skipped"][:1]), row["skipped"]
    with torch.no_grad():
        expected = first(module(*inputs))
    torch.testing.assert_close(first(artifact(*inputs)), expected, rtol=1e-3, atol=1e-4)
