"""share-attention: followers compute with the leader's probabilities, and only that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from sharing_network import CALIBRATION, DEPTH, WIDTH, Encoder, Packed, X, compiled, share_by_hand

import optc
from optc.errors import UserError
from optc.passes.share_attention._groups import Group, group


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("match", ["true", "false"])
def test_it_computes_the_module_with_shared_probabilities(count: int, match: str) -> None:
    module = Encoder()
    artifact, row = compiled(module, f"count={count}, match-heads={match}")
    followers = row["detail"]["followers"]
    assert len(followers) == count and not {0, DEPTH - 1} & {each["layer"] for each in followers}
    assert match == "true" or all(each["heads"] == [0, 1, 2, 3] for each in followers)
    full = module(X)
    share_by_hand(module, row)
    assert_close(artifact(X), module(X))
    assert not torch.allclose(module(X), full, rtol=1e-3)


def test_layers_that_are_alike_are_found_whatever_the_order_of_their_heads() -> None:
    _, row = compiled(Encoder(), "threshold=0.95")
    pairs = {(each["leader"], each["layer"]): tuple(each["heads"]) for each in row["detail"]["followers"]}
    assert pairs == {(1, 2): Encoder.order, (3, 4): Encoder.order}
    _, row = compiled(Encoder(), "threshold=0.95, match-heads=false")
    assert row["detail"]["followers"] == []
    assert "alike" in row["skipped"][0]["reason"]


def test_similarity_equals_its_definition() -> None:
    module = Encoder(probabilities=True).eval()
    with torch.no_grad():
        one, other = (module(torch.tensor(CALIBRATION["x"]))[1 + layer] for layer in (1, 2))
    cosines = torch.nn.functional.cosine_similarity(
        one.flatten(2)[:, :, None], other.flatten(2)[:, None], dim=-1
    ).mean(0)
    _, row = compiled(Encoder(), "count=1")
    found = row["detail"]["similarity"]["attention of layer 2 to 1"]
    assert found == pytest.approx(float(cosines.max(dim=0).values.mean()), abs=2e-4)


def test_padding_does_not_count() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((12, 9, WIDTH)).astype(np.float32)
    short, mask = x[:, :6], np.ones((12, 9), dtype=np.int64)
    mask[:, 6:] = 0
    args = (X, torch.ones(2, 6, dtype=torch.int64))
    tokens = torch.export.Dim("tokens", min=2, max=64)
    given = {"args": args, "dynamic_shapes": ({1: tokens}, {1: tokens})}
    found = [
        compiled(Encoder(), "count=1", calibration=calibration, **given)[1]["detail"]["similarity"]
        for calibration in ({"x": x, "mask": mask}, {"x": short, "mask": mask[:, :6]})
    ]
    assert found[0] == pytest.approx(found[1], abs=2e-4)


def test_dead_projections_leave_the_file(tmp_path: Path) -> None:
    artifact, row = compiled(
        Encoder(), "count=2, match-heads=false", pipeline="simplify, share-attention{%s}"
    )
    assert row["detail"]["parameters_removed"] >= 2 * 2 * WIDTH * WIDTH
    artifact.save(tmp_path / "a")
    plain = optc.compile(Encoder().eval(), (X,), pipeline="simplify", gate=False)
    plain.save(tmp_path / "b")
    sizes = [
        sum(v.const_value.nbytes for v in ir.load(tmp_path / name / "model.onnx").graph.initializers.values())
        for name in ("a", "b")
    ]
    assert sizes[1] - sizes[0] >= 2 * 2 * WIDTH * WIDTH * 4


def test_followers_with_one_product_for_all_three_keep_only_the_columns_of_the_values() -> None:
    artifact, row = compiled(Packed(), "count=2", pipeline="simplify, share-attention{%s}")
    followers = row["detail"]["followers"]
    assert row["detail"]["parameters_removed"] >= 2 * (2 * WIDTH * WIDTH + 2 * WIDTH) - 2 * 4
    shapes = [tuple(value.shape) for value in artifact.model.graph.initializers.values()]
    assert shapes.count((WIDTH, 3 * WIDTH)) == DEPTH - len(followers) == DEPTH - 2
    module = Encoder()
    share_by_hand(module, row)
    assert_close(artifact(X), module(X))


@pytest.mark.parametrize("pipeline", ["share-attention{%s}", "simplify, fuse, share-attention{%s}"])
def test_any_place_in_the_pipeline_is_right(pipeline: str) -> None:
    module = Encoder()
    artifact, row = compiled(module, "count=1", pipeline=pipeline)
    share_by_hand(module, row)
    assert_close(artifact(X), module(X))


def test_groups_do_not_grow_over_their_limit() -> None:
    _, row = compiled(Encoder(), "count=2, group=2")
    leaders = [each["leader"] for each in row["detail"]["followers"]]
    assert len(set(leaders)) == 2


def test_a_second_run_changes_nothing() -> None:
    text = "share-attention{threshold=0.95}"
    artifact = optc.compile(
        Encoder().eval(), (X,), pipeline=f"simplify, {text}, {text}", calibration=CALIBRATION, gate=False
    )
    first, second = (row for row in artifact.report["passes"] if row["name"] == "share-attention")
    assert first["changed"] and not second["changed"]
    assert "more than one reader" in second["skipped"][0]["reason"]


def test_probabilities_that_are_outputs_stay() -> None:
    artifact, row = compiled(Encoder(probabilities=True), "threshold=0.5")
    assert not row["changed"]
    assert "output of the model" in row["skipped"][0]["reason"]
    for found, expected in zip(artifact(X), Encoder(probabilities=True).eval()(X), strict=True):
        assert_close(found, expected)


def test_count_zero_and_models_without_attention_are_left_alone() -> None:
    _, row = compiled(Encoder(), "count=0")
    assert not row["changed"]
    module = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())
    calibration = {"input": CALIBRATION["x"]}
    _, row = compiled(module, "count=1", calibration=calibration)
    assert not row["changed"]
    assert "no two layers" in row["skipped"][0]["reason"]


@pytest.mark.parametrize(
    "options,message",
    [
        ("count=9", "more followers than there can be"),
        ("count=-1", "out of range"),
        ("threshold=1.5", "cosine"),
        ("group=1", "a leader and a follower"),
    ],
)
def test_what_cannot_be_is_said(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compiled(Encoder(), options)


def test_it_needs_calibration_data() -> None:
    with pytest.raises(UserError, match="calibration"):
        compiled(Encoder(), "count=1", calibration=None)


def alike(pairs: dict[tuple[int, int], float], size: int = 4) -> np.ndarray:
    found = np.full((size, size), 0.5)
    for (leader, follower), value in pairs.items():
        found[leader, follower] = value
    return found


def test_a_join_counts_what_all_its_members_lose() -> None:
    # 2 is most like 1, but then 3 would follow 1 as well, which it is not like at all.
    values = alike({(1, 2): 0.9, (2, 3): 0.95, (0, 1): 0.8, (1, 3): 0.1})
    assert group(values, followers=2, threshold=-1, largest=None) == [Group((0, 1)), Group((2, 3))]


def test_no_member_falls_below_the_threshold() -> None:
    values = alike({(0, 1): 0.95, (1, 2): 0.97, (0, 2): 0.7, (2, 3): 0.6})
    expected: list[Any] = [Group((0,)), Group((1, 2)), Group((3,))]
    assert group(values, followers=None, threshold=0.9, largest=None) == expected
