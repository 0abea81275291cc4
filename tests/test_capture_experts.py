"""Mixtures of experts: each row meets the weights of its group, wherever the groups end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import optc
from optc.capture import capture

pytest.importorskip("transformers.integrations.moe", reason="its operator is one of those translated")

GROUPS, WIDTH, MADE = 3, 8, 16


class Grouped(nn.Module):
    """Rows times the weights of the group that they are in; ``transposed`` as Linear keeps its weights."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        shape = (GROUPS, MADE, WIDTH) if transposed else (GROUPS, WIDTH, MADE)
        self.weights, self.transposed = nn.Parameter(torch.randn(shape, generator=draw)), transposed

    def forward(self, rows: Any, ends: Any) -> Any:
        weights = self.weights.transpose(-2, -1) if self.transposed else self.weights
        if rows.dtype == torch.bfloat16:  # the only type that torch's own operator is exported with
            return nn.functional.grouped_mm(rows, weights, offs=ends)
        return torch.ops.transformers.grouped_mm_fallback(rows, weights, ends)


def rows(count: int) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count))


def ends(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


@pytest.mark.parametrize("transposed", [False, True], ids=["as-is", "transposed"])
def test_rows_meet_the_weights_of_their_group(transposed: bool) -> None:
    model = Grouped(transposed).eval()
    shapes = {"rows": {0: "rows"}, "ends": None}
    artifact = optc.compile(model, (rows(7), ends(2, 5, 7)), dynamic_shapes=shapes, gate=False)
    weights = model.weights.detach().transpose(1, 2) if transposed else model.weights.detach()
    for count, stops in ((7, (2, 5, 7)), (7, (0, 7, 7)), (4, (0, 0, 4)), (9, (9, 9, 9)), (1, (0, 1, 1))):
        given, starts = rows(count), (0, *stops)
        want = torch.cat([given[a:b] @ w for a, b, w in zip(starts, stops, weights, strict=False)])
        np.testing.assert_allclose(artifact(given, ends(*stops)), want, rtol=1e-5, atol=1e-5)


def test_the_operator_of_torch() -> None:
    model = Grouped(False).bfloat16().eval()
    given, stops = rows(7).bfloat16(), ends(2, 2, 7)
    artifact = optc.compile(model, (given, stops), gate=False)
    got = artifact(given, stops).float()
    weights = model.weights.detach().float()
    want = torch.cat([given[:2].float() @ weights[0], given[2:].float() @ weights[2]])
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=2e-2)


def test_rows_behind_the_last_group_give_zero() -> None:
    model = Grouped(False).eval()
    captured = capture(model, (rows(7), ends(2, 5, 7)))
    result = optc.compile(captured, pipeline="")(rows(7), ends(1, 2, 4))
    assert not result[4:].any() and result[:4].abs().min() > 0


def test_the_weights_of_every_group_become_constants() -> None:
    model = Grouped(True).eval()
    artifact = optc.compile(model, (rows(7), ends(2, 5, 7)), gate=False)
    products = [node for node in artifact.model.graph if node.op_type in ("MatMul", "Gemm")]
    assert len(products) == GROUPS
    assert all(node.inputs[1].const_value is not None for node in products)


def test_a_mixture_of_experts_of_transformers() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config.num_key_value_heads, config.num_local_experts, config.use_cache = 2, 4, False
    model = transformers.MixtralModel(config).eval()
    ids = torch.randint(0, 64, (2, 5))
    shapes = {"input_ids": {0: "batch", 1: "length"}}
    artifact = optc.compile(model, {"input_ids": ids}, dynamic_shapes=shapes, gate=False)
    for given in (ids, torch.randint(0, 64, (1, 1)), torch.randint(0, 64, (3, 11))):
        with torch.no_grad():
            want = model(given).last_hidden_state
        np.testing.assert_allclose(artifact(given).last_hidden_state, want, rtol=1e-4, atol=1e-5)
