"""skip-layers: what is left computes the network without the removed pieces, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from layered_network import CALIBRATION, DEPTH, WIDTH, Encoder, X, assert_close, compiled
from torch import nn

import optc
from optc.errors import UserError


@pytest.mark.parametrize("style", ["pre", "post", "parallel"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_rest_computes_the_module_without_the_removed_layers(style: str, count: int) -> None:
    module = Encoder(style)
    artifact, row = compiled(module, f"method=uniform, count={count}")
    gone = row["detail"]["layers"]
    assert len(gone) == count and not {0, DEPTH - 1} & set(gone)
    full = module(X)
    module.layers = nn.ModuleList(layer for i, layer in enumerate(module.layers) if i not in gone)
    assert_close(artifact(X), module(X))
    assert not torch.allclose(artifact(X), full, rtol=1e-2)


@pytest.mark.parametrize("style", ["pre", "post", "parallel"])
@pytest.mark.parametrize("scope", ["attention", "mlp"])
def test_halves_are_removed_alone(style: str, scope: str) -> None:
    module = Encoder(style)
    artifact, row = compiled(module, f"method=uniform, scope={scope}, count=2")
    assert row["matched"] == {f"{scope} removed": 2}
    for layer in row["detail"]["layers"]:
        module.layers[layer].dropped = {scope}
    assert_close(artifact(X), module(X))


@pytest.mark.parametrize("pipeline", ["skip-layers{%s}", "simplify, fuse, skip-layers{%s}"])
def test_any_place_in_the_pipeline_is_right(pipeline: str) -> None:
    module = Encoder("post")
    artifact, row = compiled(module, "method=uniform, count=1", pipeline=pipeline)
    del module.layers[row["detail"]["layers"][0]]
    assert_close(artifact(X), module(X))


def test_removed_weights_leave_the_file(tmp_path: Any) -> None:
    artifact, row = compiled(Encoder(), "method=uniform, count=3")
    layer = sum(p.numel() * 4 for p in Encoder().layers[0].parameters())
    assert row["bytes_before"] - row["bytes_after"] >= 3 * layer
    artifact.save(tmp_path / "a")
    saved = ir.load(tmp_path / "a" / "model.onnx")
    assert sum(v.const_value.nbytes for v in saved.graph.initializers.values()) < 2.5 * layer


def test_hidden_states_among_the_outputs_keep_their_names() -> None:
    module = Encoder(states=True)
    artifact, row = compiled(module, "method=uniform, count=1")
    [gone] = row["detail"]["layers"]
    expected = module(X)
    results = artifact(X)
    assert_close(results[gone + 1], results[gone])  # the removed layer hands on what it got
    assert_close(results[gone], expected[gone])


def test_influence_removes_the_layer_that_does_least() -> None:
    module = Encoder("pre")
    with torch.no_grad():
        module.layers[3].attention.out.weight.mul_(1e-3), module.layers[3].attention.out.bias.zero_()
        module.layers[3].mlp[2].weight.mul_(1e-3), module.layers[3].mlp[2].bias.zero_()
    for method in ("influence", "similarity", "search"):
        _, row = compiled(module, f"method={method}, count=1", calibration=CALIBRATION)
        assert row["detail"]["layers"] == [3], method


def test_influence_equals_its_definition() -> None:
    module = Encoder("post")
    _, row = compiled(module, "method=influence, count=1", calibration=CALIBRATION)
    states = [torch.from_numpy(CALIBRATION["x"])]
    for layer in module.layers:
        states.append(layer(states[-1]).detach())
    for i in (1, 2, 3):
        cosine = torch.cosine_similarity(states[i], states[i + 1], dim=-1).mean().item()
        assert row["detail"]["scores"][f"block {i}"] == pytest.approx(1 - cosine, abs=1e-5)


def test_padding_does_not_count() -> None:
    """Tokens behind the mask are garbage; scores are those of the real ones."""
    module = Encoder("post")
    mask = torch.ones(2, 6, dtype=torch.int64)
    x = np.concatenate([CALIBRATION["x"], np.full((40, 6, WIDTH), 50, np.float32)], axis=1)
    masks = np.concatenate([np.ones((40, 6), np.int64), np.zeros((40, 6), np.int64)], axis=1)
    seq = torch.export.Dim("seq")
    artifact = optc.compile(
        module.eval(),
        (X, mask),
        dynamic_shapes=({1: seq}, {1: seq}),
        pipeline="simplify, skip-layers{count=1}",
        calibration={"x": x, "mask": masks},
    )
    scores = artifact.report["passes"][1]["detail"]["scores"]
    _, row = compiled(module, "method=influence, count=1", calibration=CALIBRATION)
    assert scores == pytest.approx(row["detail"]["scores"], abs=1e-4)


def test_ratio_and_speedup_say_how_many() -> None:
    assert compiled(Encoder(), "method=uniform, ratio=0.4")[1]["matched"] == {"block removed": 2}
    assert compiled(Encoder(), "method=uniform, speedup=1.2")[1]["matched"] == {"block removed": 1}
    assert compiled(Encoder(), "method=uniform, speedup=1.6")[1]["matched"] == {"block removed": 2}


def test_count_zero_changes_nothing() -> None:
    module = Encoder()
    artifact, row = compiled(module, "method=uniform, count=0")
    assert not row["changed"]
    assert_close(artifact(X), module(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("method=uniform", "say how much"),
        ("method=uniform, count=1, ratio=0.5", "contradict"),
        ("method=uniform, count=-1", "out of range"),
        ("method=uniform, ratio=1.5", "out of range"),
        ("method=uniform, speedup=0.5", "out of range"),
        ("method=uniform, count=4", "more pieces than may be removed \\(3 of 5\\)"),
        ("method=influence, count=1", "needs calibration data"),
        ("method=uniform, count=1, compensate=linear", "needs calibration data"),
        ("method=unifrom, count=1", "uniform"),
    ],
)
def test_what_cannot_be_done_is_refused(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compiled(Encoder(), options)


class Leaky(Encoder):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        scores = self.layers[2].attention.qkv(self.layers[1](self.layers[0](x)))
        return super().forward(x), scores


def test_a_block_whose_inside_is_an_output_stays() -> None:
    artifact, row = compiled(Leaky("post"), "method=uniform, count=1")
    assert row["detail"]["layers"] != [2]
    assert any("block 2" in skip["node"] and "output" in skip["reason"] for skip in row["skipped"])
    assert all(a.isfinite().all() for a in artifact(X))


def test_a_network_without_blocks_is_left_alone() -> None:
    _, row = compiled(nn.Sequential(nn.Softmax(-1)), "method=uniform, count=1")
    assert not row["changed"] and "no removable block" in row["skipped"][-1]["reason"]
