"""merge-tokens{method=tome}: the artifact computes what merging by hand computes, and says what it did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from capture_once import capture_once
from vision import merged_vit, pixels, vit

import optc
from optc.errors import UserError

BEFORE_FUSE = "simplify, merge-tokens{%s}, fuse"


def compiled(
    module: Any, x: torch.Tensor, options: str, pipeline: str = BEFORE_FUSE
) -> tuple[Any, dict[str, Any]]:
    artifact = optc.compile(capture_once(module, (x,)), pipeline=pipeline % options)
    [row] = [row for row in artifact.report["passes"] if row["name"] == "merge-tokens"]
    return artifact, row


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    error = (actual - expected).norm() / expected.norm()
    assert error < 1e-4, error


def expected_logits(module: Any, x: torch.Tensor, amounts: list[int]) -> torch.Tensor:
    with torch.no_grad():
        tokens = merged_vit(module.vit, module.vit.embeddings(x), amounts)
        return module.classifier(module.vit.layernorm(tokens.x)[:, 0])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pipeline", [BEFORE_FUSE, "simplify, fuse, merge-tokens{%s}", "merge-tokens{%s}"])
def test_it_equals_merging_by_hand_wherever_it_stands(pipeline: str, batch: int) -> None:
    module, x = vit(), pixels(batch)
    artifact, row = compiled(module, x, "r=3", pipeline)
    assert_close(artifact(x).logits, expected_logits(module, x, [3, 3, 3]))
    assert not torch.allclose(artifact(x).logits, module(x).logits, rtol=1e-2)
    [stream] = row["detail"]["streams"]
    assert stream["tokens"] == [17, 14, 11, 8] and stream["protected"] == 1


@pytest.mark.parametrize(
    ("options", "amounts"),
    [
        ("r=2, schedule=decreasing", [4, 2, 0]),
        ('schedule="4,0,1"', [4, 0, 1]),
        ('schedule="5"', [5, 0, 0]),
        ('r=2, layers="1-2"', [0, 2, 2]),
        ("r=50", [8, 4, 2]),
    ],
)
def test_schedules_and_layers(options: str, amounts: list[int]) -> None:
    module, x = vit(), pixels(2)
    artifact, _ = compiled(module, x, options)
    assert_close(artifact(x).logits, expected_logits(module, x, amounts))


@pytest.mark.parametrize("options", ["r=-1", "schedule=often", 'layers="2-9"', "protect=-1"])
def test_options_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(UserError):
        compiled(vit(), pixels(1), options)
