"""Maps in place of removed layers: the closed forms are the optimum, and they help where it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from layered_network import CALIBRATION, DEPTH, WIDTH, Encoder, X, compiled
from torch import nn

from optc.oracle import Oracle
from optc.passes.skip_layers import _stand_in
from optc.passes.skip_layers._compensate import Fit, Moments, fit_diagonal, fit_linear

RNG = np.random.default_rng(0)


def moments(x: np.ndarray, y: np.ndarray) -> Moments:
    found = Moments()
    for rows in np.array_split(np.arange(len(x)), 7):  # streamed
        found.add(x[rows], y[rows])
    return found


def test_linear_is_least_squares() -> None:
    x = RNG.standard_normal((400, 6))
    y = x @ RNG.standard_normal((6, 6)) + 3 + 0.01 * RNG.standard_normal((400, 6))
    fit = fit_linear(moments(x[:300], y[:300]), moments(x[300:], y[300:]))
    solution, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(400)]), y, rcond=None)
    np.testing.assert_allclose(fit.weight, solution[:-1], atol=1e-3)
    np.testing.assert_allclose(fit.bias, solution[-1], atol=1e-3)
    judged = np.linalg.norm(x[300:] @ fit.weight + fit.bias - y[300:]) / np.linalg.norm(y[300:])
    assert fit.error == pytest.approx(judged, rel=0.1)
    assert fit.identity == pytest.approx(np.linalg.norm(x[300:] - y[300:]) / np.linalg.norm(y[300:]))


def test_noise_makes_linear_shrink_to_identity() -> None:
    x = RNG.standard_normal((60, 20))
    y = x + 5 * RNG.standard_normal((60, 20))
    held = RNG.standard_normal((2000, 20))
    fit = fit_linear(moments(x, y), moments(held, held))
    assert np.abs(fit.weight - np.eye(20)).max() < 0.2


def test_diagonal_is_one_regression_per_channel() -> None:
    x = RNG.standard_normal((300, 5)) + 2
    y = x * [1, 2, -1, 0.5, 0] + [0, 1, 2, 3, 4]
    fit = fit_diagonal(moments(x[:200], y[:200]), moments(x[200:], y[200:]))
    np.testing.assert_allclose(fit.weight, [1, 2, -1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(fit.bias, [0, 1, 2, 3, 4], atol=1e-6)
    assert fit.error < 1e-6


@pytest.mark.parametrize("style", ["pre", "post"])
@pytest.mark.parametrize("compensate", ["diagonal", "linear", "true"])
def test_compensation_brings_the_answers_nearer(style: str, compensate: str) -> None:
    module = Encoder(style)
    x = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(7))
    expected = module(x)
    bare, _ = compiled(module, "method=influence, count=1", calibration=CALIBRATION)
    options = f"method=influence, count=1, compensate={compensate}"
    better, row = compiled(module, options, calibration=CALIBRATION)
    assert (better(x) - expected).norm() < (bare(x) - expected).norm()
    [note] = row["detail"]["compensation"]
    assert note["held_out_error"] < note["identity_error"]


def test_a_diagonal_map_folds_into_the_norm_before_it() -> None:
    """Post-norm: only the removed layer read that norm, so its affine takes the map and no node is added."""
    options = "method=influence, count=1, compensate=%s"
    bare, _ = compiled(Encoder("post"), options % "false", calibration=CALIBRATION)
    folded, row = compiled(Encoder("post"), options % "diagonal", calibration=CALIBRATION)
    assert row["matched"]["replaced by diagonal, folded into the norm before it map"] == 1
    assert len(list(folded.model.graph)) == len(list(bare.model.graph))


def test_neighbours_share_one_map() -> None:
    options = "method=similarity, count=2, compensate=linear"
    _, row = compiled(Encoder("pre"), options, calibration=CALIBRATION)
    [note] = row["detail"]["compensation"]
    assert len(note["pieces"]) == 2


def test_too_little_data_for_a_matrix_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stand_in, "_TOKENS_PER_ROW", 5)
    few = {"x": CALIBRATION["x"][:2, :6]}
    _, row = compiled(Encoder("pre"), "count=1, compensate=linear", calibration=few)
    assert any("too few for a linear map" in skip["reason"] for skip in row["skipped"])


def test_a_linear_map_of_few_tokens_helps_on_others() -> None:
    """As many tokens as rows leave least squares undetermined; what they agree on is found all the same."""
    width = 48
    change = 0.4 * RNG.standard_normal((width, 3)) @ RNG.standard_normal((3, width)) / 3**0.5
    x, held, other = (RNG.standard_normal((rows, width)) for rows in (width, 16, 500))
    y, held_y, other_y = (
        rows + rows @ change + 0.5 * RNG.standard_normal(rows.shape) for rows in (x, held, other)
    )
    fit = fit_linear(moments(x, y), moments(held, held_y))
    left = np.linalg.norm(other @ fit.weight + fit.bias - other_y)
    assert left < 0.95 * np.linalg.norm(other - other_y)


def test_a_map_that_moves_the_answers_away_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """However well it seems to predict the state."""
    bad = Fit("diagonal", np.full(WIDTH, -3.0), np.full(WIDTH, 5.0), error=0.0, identity=1.0)
    for name in ("fit_diagonal", "fit_linear"):
        monkeypatch.setattr(_stand_in, name, lambda *_: bad)
    bare, _ = compiled(Encoder("pre"), "count=1", calibration=CALIBRATION)
    found, row = compiled(Encoder("pre"), "count=1, compensate=true", calibration=CALIBRATION)
    assert any("nearer without a map" in skip["reason"] for skip in row["skipped"])
    assert torch.equal(found(X), bare(X))


def test_samples_of_all_the_data_judge_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth, none of which a fit has seen."""
    judged: list[Any] = []

    def oracle(model: ir.Model, samples: list[Any]) -> Oracle:
        judged.extend(samples)
        return Oracle(model, samples)

    monkeypatch.setattr(_stand_in, "Oracle", oracle)
    compiled(Encoder("pre"), "count=1, compensate=true", calibration=CALIBRATION)
    expected = CALIBRATION["x"].reshape(-1, *X.shape)[4::5]
    assert len(expected) == 4
    np.testing.assert_array_equal([sample["x"] for sample in judged], expected)


@pytest.mark.parametrize(
    ("kind", "shape", "reason"),
    [
        (ir.DataType.FLOAT, [2, "tokens", 8], None),
        (ir.DataType.FLOAT, [2, 8, 4, 4], "its channels are not on the last axis"),
        (ir.DataType.FLOAT, [2, 4, "width"], "the width of its last axis is not known when compiling"),
        (ir.DataType.FLOAT, [8], "the width of its last axis is not known when compiling"),
        (ir.DataType.INT64, [2, 4, 8], "its type is INT64"),
    ],
    ids=str,
)
def test_only_vectors_of_tokens_get_a_map(kind: ir.DataType, shape: list[Any], reason: str | None) -> None:
    value = ir.Value(name="exit", type=ir.TensorType(kind), shape=ir.Shape(shape))
    assert _stand_in._not_a_token_vector(value) == reason


def test_terms_of_a_sum_are_not_compensated() -> None:
    options = "method=influence, scope=attention, count=1, compensate=true"
    _, row = compiled(Encoder("parallel"), options, calibration=CALIBRATION)
    assert any("term of a sum" in skip["reason"] for skip in row["skipped"])


def test_search_without_a_budget_for_all_sets_still_finds_the_dead_layer() -> None:
    module = Encoder("pre")
    with torch.no_grad():
        for layer in (1, 3):
            for part in (module.layers[layer].attention.out, module.layers[layer].mlp[2]):
                assert isinstance(part, nn.Linear)
                part.weight.zero_(), part.bias.zero_()
    _, row = compiled(module, "method=search, count=2, budget=100", calibration=CALIBRATION)
    assert row["detail"]["layers"] == [1, 3]
    assert DEPTH == 5
