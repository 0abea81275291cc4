"""Smoothing: exact in float wherever the factors go, and less error in int8 behind large channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from linears import ops, parse, relative, run

from optc import oracle, registry
from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context
from optc.passes.quantize.smooth import smooth
from optc.passes.quantize.smooth.choose import expected_error, smoothing_factors
from optc.passes.quantize.smooth.statistics import Channels
from optc.passes.quantize.static.sites import find

RNG = np.random.default_rng(0)
LARGE = np.where(np.arange(16) == 3, 40.0, 1.0).astype(np.float32)  # one channel dwarfs the others
W, V = (RNG.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
GAMMA, BETA = LARGE, RNG.standard_normal(16).astype(np.float32)
SAMPLES = [{"x": RNG.standard_normal((2, 7, 16)).astype(np.float32)} for _ in range(4)]
HEAD = "(float[2,7,16] x) => (float[2,7,16] y)"
NORM = "n = LayerNormalization <axis = -1> (x, gamma, beta)"

FOLDING = {
    "norm": f"{NORM}  y = MatMul(n, w)",
    "norm with two readers": f"{NORM}  p = MatMul(n, w)  q = MatMul(n, v)  y = Add(p, q)",
    "affine nodes": "g = Mul(x, gamma)  n = Add(g, beta)  y = MatMul(n, w)",
    "product and Relu": "p = MatMul(x, turned)  a = Add(p, beta)  r = Relu(a)  y = MatMul(r, w)",
    "gated product": "p = MatMul(x, v)  g = Sigmoid(p)  u = MatMul(x, turned)  h = Mul(g, u)"
    "  y = MatMul(h, w)",
}


def _model(body: str) -> ir.Model:
    names = {"w": W, "v": V, "gamma": GAMMA, "beta": BETA, "turned": V * LARGE}
    model = parse(f"{HEAD} {{ {body} }}", **{k: a for k, a in names.items() if k in body.split("=", 1)[1]})
    shapes.infer(model)
    return model


@pytest.mark.parametrize("body", FOLDING.values(), ids=FOLDING)
def test_factors_fold_into_what_computes_the_input_and_change_nothing(body: str) -> None:
    before = ops(_model(body))
    model = _model(body)
    last = [site for site in find(model)[0] if str(site.data.name) in "nrh"]
    done = smooth(model, last, SAMPLES, Context(target=registry.find_target("cpu")))
    assert (done.folded, done.multiplied) == (1, 0)
    assert ops(model) == before
    expected, actual = (oracle.run(m, SAMPLES[0])["y"] for m in (_model(body), model))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(actual, expected), "something was folded"


@pytest.mark.parametrize(
    "body",
    [
        f"{NORM}  p = MatMul(n, w)  y = Add(n, p)",
        "g = Mul(x, gamma)  n = Tanh(g)  s = Mul(n, gamma)  t = Exp(s)  y = MatMul(t, w)",
    ],
    ids=["others read it", "not linear"],
)
def test_where_folding_would_be_seen_a_node_divides(body: str) -> None:
    model = _model(body)
    done = smooth(model, find(model)[0], SAMPLES, Context(target=registry.find_target("cpu")), alpha=0.7)
    assert (done.folded, done.multiplied) == (0, 1)
    assert len(ops(model)) == len(ops(_model(body))) + 1
    expected, actual = (oracle.run(m, SAMPLES[0])["y"] for m in (_model(body), model))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", ["", ", beta"])
def test_factors_fold_into_a_gemm_whichever_way_its_weight_lies(turned: int, bias: str) -> None:
    body = f"""(float[7,16] x) => (float[7,16] y) {{
        p = Gemm <transB = {turned}> (x, large{bias})  r = Relu(p)  y = MatMul(r, w) }}"""
    large = V * LARGE
    constants = {"large": large.T.copy() if turned else large, "w": W, **({"beta": BETA} if bias else {})}
    before, after = (parse(body, **constants) for _ in range(2))
    shapes.infer(after)
    samples = [{"x": sample["x"][0]} for sample in SAMPLES]
    last = [site for site in find(after)[0] if site.data.name == "r"]
    done = smooth(after, last, samples, Context(target=registry.find_target("cpu")))
    assert (done.folded, done.multiplied) == (1, 0)
    expected, actual = (oracle.run(m, samples[0])["y"] for m in (before, after))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_int8_behind_a_large_channel_loses_much_less() -> None:
    body = f"{NORM}  y = MatMul(n, w)"
    expected = oracle.run(_model(body), SAMPLES[0])["y"]
    errors = {}
    for smoothing in ("none", "auto", "0.5"):
        model, [record] = run(f"quantize{{scheme=int8-dynamic, smooth={smoothing}}}", _model(body), SAMPLES)
        errors[smoothing] = relative(oracle.run(model, SAMPLES[0])["y"], expected)
        assert record.report.matched.get("input smoothed", 0) == (smoothing != "none")
    assert errors["auto"] < 0.5 * errors["none"]
    assert errors["auto"] <= 1.1 * errors["0.5"]


def test_the_expected_error_is_the_one_that_is_measured() -> None:
    x = SAMPLES[0]["x"].reshape(-1, 16) * LARGE
    seen = Channels()
    square = x * x
    inverse = 1 / square.mean(axis=1)
    shares = (square * inverse[:, None]).mean(axis=0)
    seen.update([x.min(axis=0), x.max(axis=0), shares, inverse.mean(), np.array(len(x))])
    factors = smoothing_factors(seen, W, 0.5)
    low, high = (x / factors).min(), (x / factors).max()
    step, weight = (high - low) / 255, W * factors[:, None]
    weight_step = np.abs(weight).max(axis=0) / 127
    rounded = np.rint(x / factors / step) * step @ (np.rint(weight / weight_step) * weight_step)
    measured = np.mean(np.sum((rounded - x @ W) ** 2, axis=1) * inverse) / inverse.mean()
    expected = expected_error(seen, W, factors, True, 127)
    assert 0.5 < expected / measured < 2


def test_without_any_data_there_is_no_smoothing() -> None:
    _, [record] = run("quantize{scheme=int8-dynamic}", _model(f"{NORM}  y = MatMul(n, w)"))
    assert "input smoothed" not in record.report.matched


@pytest.mark.parametrize("value", ["most", "1.5", "-1"])
def test_an_exponent_that_has_no_meaning_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="number from 0 to 1"):
        run(f"quantize{{scheme=int8-dynamic, smooth={value}}}", _model(f"{NORM}  y = MatMul(n, w)"), SAMPLES)


@pytest.mark.parametrize("rows", [1, 4, 12])
def test_few_rows_do_not_decide_how_large_channels_are(rows: int) -> None:
    """Behind a Relu most channels of a few rows are zero by chance; divided by that, other rows explode."""
    rng = np.random.default_rng(1)
    wide, back = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    body = "h = MatMul(x, wide)  r = Relu(h)  y = MatMul(r, back)"
    head = "(float[batch, 64] x) => (float[batch, 64] y)"
    few = [{"x": rng.standard_normal((rows, 64)).astype(np.float32)}]
    others = {"x": rng.standard_normal((200, 64)).astype(np.float32)}
    expected = oracle.run(parse(f"{head} {{ {body} }}", wide=wide, back=back), others)["y"]
    errors = {}
    for smoothing in ("none", "auto"):
        model = parse(f"{head} {{ {body} }}", wide=wide, back=back)
        shapes.infer(model)
        model, _ = run(f"quantize{{scheme=int8-dynamic, smooth={smoothing}}}", model, few)
        errors[smoothing] = relative(oracle.run(model, others)["y"], expected)
    assert errors["auto"] < 1.25 * errors["none"]


def test_many_rows_tell_small_channels_from_large_ones() -> None:
    def shrunk(rows: int) -> float:
        seen, sizes = Channels(), np.array([0.01, 1.0, 1.0, 1.0, 100.0])
        seen.update([-sizes, sizes, sizes**2, np.array(1.0), np.array(rows)])
        return float(seen.magnitude[4] / seen.magnitude[0])

    assert shrunk(10**7) == pytest.approx(1e4, rel=0.3)
    assert shrunk(10) < 300 < shrunk(1000)
    assert shrunk(1) > 2, "one channel of a hundred times the others is no chance"
