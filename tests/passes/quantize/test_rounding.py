"""Grids of weights, and rounding with feedback: what it gains on inputs not seen, and where it stays out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from linears import parse, relative, run

from optc import oracle
from optc.passes.quantize import feedback
from optc.passes.quantize.rounding import lattice

RNG = np.random.default_rng(0)
ROWS, FEW, MANY, COLUMNS = 128, 16, 64, 24
MIXING = RNG.standard_normal((FEW, MANY)).astype(np.float32)
W = RNG.standard_normal((MANY, COLUMNS)).astype(np.float32)
BIAS = np.zeros(COLUMNS, np.float32)


def _together() -> np.ndarray:
    """Rows whose channels are mixtures of fewer, [1, ROWS, MANY]."""
    noise = 0.05 * RNG.standard_normal((ROWS, MANY))
    return np.asarray((RNG.standard_normal((ROWS, FEW)) @ MIXING + noise)[None], np.float32)


def _apart() -> np.ndarray:
    return RNG.standard_normal((1, ROWS, MANY)).astype(np.float32)


def _model() -> ir.Model:
    shape = f"1,{ROWS}"
    return parse(
        f"(float[{shape},{MANY}] x) => (float[{shape},{COLUMNS}] y) {{ p = MatMul(x, w)  y = Add(p, b) }}",
        w=W,
        b=BIAS,
    )


def _weights(model: ir.Model) -> np.ndarray:
    """The weights in float that the model multiplies by."""
    known = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    [name] = [name for name, array in known.items() if array.shape == W.shape]
    stem = name.removesuffix("_quantized")
    codes = known[name].astype(np.float32)
    return np.asarray((codes - known[f"{stem}_zero"].astype(np.float32)) * known[f"{stem}_scale"])


@pytest.mark.parametrize("limit", [127, 63])
def test_a_grid_ends_where_the_weights_of_its_column_do(limit: int) -> None:
    weights = np.array([[-1.0, 0.5, 0.0], [3.0, 2.0, 0.0]], np.float32)
    grid = lattice(weights, per_channel=True, limit=limit)
    codes = grid.codes(weights)
    assert codes.min() >= -limit - 1 and codes.max() <= limit
    assert (codes[:, 0] == [-limit - 1, limit]).all()
    np.testing.assert_allclose(grid.numbers(codes), weights, atol=float(grid.scales.max()))
    assert (grid.numbers(grid.codes(np.zeros_like(weights))) == 0).all()


@pytest.mark.parametrize("per_channel", [True, False])
def test_steps_are_those_of_the_range_and_not_of_the_largest_magnitude(per_channel: bool) -> None:
    weights = np.abs(W) - 0.5
    grid = lattice(weights, per_channel=per_channel, limit=127)
    axis = 0 if per_channel else None
    np.testing.assert_allclose(grid.scales, np.ptp(weights, axis=axis) / 255, rtol=1e-6)
    assert np.abs(grid.numbers(grid.codes(weights)) - weights).max() <= 0.51 * grid.scales.max()


def test_what_one_weight_loses_others_make_up_for() -> None:
    samples = [{"x": _together()} for _ in range(4)]
    text = "quantize{scheme=int8-dynamic, smooth=none, bias-correct=false}"
    learned, [record] = run(text, _model(), samples)
    nearest, _ = run(text, _model())
    assert record.report.matched["weight rounded with feedback"] == 1
    unseen = _together()[0]
    errors = [relative(unseen @ _weights(made), unseen @ W) for made in (learned, nearest)]
    assert errors[0] < 0.5 * errors[1]
    actual, expected = (oracle.run(made, {"x": unseen[None]})["y"] for made in (learned, _model()))
    assert relative(actual, expected) < 0.015


@pytest.mark.parametrize("sample", [_apart, lambda: _together()[:, :1]], ids=["independent", "one row"])
def test_weights_are_rounded_to_nearest_where_feedback_gains_nothing(
    sample: Callable[[], np.ndarray],
) -> None:
    text = "quantize{scheme=int8-dynamic, smooth=none, bias-correct=false}"
    body = _model()
    body.graph.inputs[0].shape = ir.Shape([1, "rows", MANY])
    made, [record] = run(text, body, [{"x": sample()}])
    nearest, _ = run(text, _model())
    assert "weight rounded with feedback" not in record.report.matched
    assert (_weights(made) == _weights(nearest)).all()


@pytest.mark.parametrize("rows", [20, 200, 20_000])
def test_covariances_are_shrunk_by_as_much_as_few_rows_say(rows: int) -> None:
    independent = np.cov(RNG.standard_normal((rows, MANY)), rowvar=False, bias=True)
    together = np.cov(RNG.standard_normal((rows, FEW)) @ MIXING, rowvar=False, bias=True)
    lost = [feedback.shrinkage(c, np.diag(c).copy(), rows) for c in (independent, together)]
    assert lost[0] > 0.9
    assert 0 <= lost[1] < min(0.6, 50 / rows)
