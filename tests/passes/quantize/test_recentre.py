"""Channels behind a norm move to around zero: exact in float, one grid fits better, and no node is added."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from linears import ops, parse, run

from optc import oracle, registry
from optc.analysis import shapes
from optc.passbase import Context
from optc.passes.quantize.smooth.recentre import recentre
from optc.passes.quantize.static.sites import find

RNG = np.random.default_rng(0)
BETA = (RNG.standard_normal(64) * 0.5).astype(np.float32)
BETA[[3, 40]] = 20.0, -15.0
WEIGHTS = {
    "gamma": np.ones(64, np.float32),
    "beta": BETA,
    "w": RNG.standard_normal((64, 32)).astype(np.float32),
    "v": RNG.standard_normal((64, 32)).astype(np.float32),
    "b": RNG.standard_normal(32).astype(np.float32),
}
FORMS = {
    "norm and two products": "n = LayerNormalization(x, gamma, beta)  p = MatMul(n, w)  q = Add(p, b) "
    "r = MatMul(n, v)  s = Add(b, r)  y = Sub(q, s)",
    "affine": "m = Mul(x, gamma)  n = Add(beta, m)  p = MatMul(n, w)  y = Add(p, b)",
}
SAMPLES = [{"x": RNG.standard_normal((2, 7, 64)).astype(np.float32)} for _ in range(10)]


def model(body: str) -> ir.Model:
    used = {name: array for name, array in WEIGHTS.items() if any(f"{name}{end}" in body for end in ",)")}
    made = parse(f"(float[2,S,64] x) => (float[2,S,32] y) {{ {body} }}", **used)
    shapes.infer(made)
    return made


def moved(made: ir.Model) -> int:
    ctx = Context(target=registry.find_target("cpu"))
    return recentre(made, find(made)[0], SAMPLES[:6], ctx)


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_it_is_exact_in_float_and_the_channels_lie_around_zero(body: str) -> None:
    before, made = model(body), model(body)
    assert moved(made) == 1
    assert ops(made) == ops(before)
    for feeds in SAMPLES:
        expected, actual = oracle.run(before, feeds)["y"], oracle.run(made, feeds)["y"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    [addend] = [v for name, v in made.graph.initializers.items() if name.startswith("beta")]
    assert np.abs(addend.const_value.numpy()).max() < 2.0, "what is left is how uneven the samples are"


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_the_error_of_int8_is_smaller(body: str, scheme: str) -> None:
    errors = []
    for recentred in (False, True):
        made = model(body)
        assert not recentred or moved(made)
        done, _ = run(f"quantize{{scheme={scheme}, smooth=none, bias-correct=false}}", made, SAMPLES[:6])
        errors.append(oracle.Oracle(model(body), SAMPLES[6:]).compare(done).rel_l2)
    assert errors[1] < 0.7 * errors[0]


def test_the_pass_does_it_and_says_so() -> None:
    _, [record] = run("quantize{scheme=int8-dynamic}", model(FORMS["affine"]), SAMPLES[:6])
    assert record.report.matched["input recentred"] == 1
    _, [record] = run("quantize{scheme=int8-dynamic, smooth=0.5}", model(FORMS["affine"]), SAMPLES[:6])
    assert "input recentred" not in record.report.matched


@pytest.mark.parametrize(
    "body",
    [
        "n = LayerNormalization(x, gamma, beta)  p = MatMul(n, w)  q = Add(p, b)  r = ReduceMean(n)  "
        "y = Add(q, r)",
        "n = LayerNormalization(x, gamma, beta)  y = MatMul(n, w)",
        "n = LayerNormalization(x, gamma)  p = MatMul(n, w)  y = Add(p, b)",
        "m = Add(x, beta)  n = Gelu(m)  p = MatMul(n, w)  y = Add(p, b)",
    ],
    ids=["read elsewhere", "no bias behind", "no addend", "not linear"],
)
def test_where_it_would_not_be_exact_or_free_nothing_changes(body: str) -> None:
    made = model(body)
    names = sorted(made.graph.initializers)
    assert moved(made) == 0 and sorted(made.graph.initializers) == names


def test_channels_that_lie_around_zero_stay() -> None:
    made = model(FORMS["affine"].replace("beta", "gamma"))
    assert moved(made) == 0


def test_a_few_rows_do_not_tell_where_the_middle_is() -> None:
    made, ctx = model(FORMS["affine"]), Context(target=registry.find_target("cpu"))
    rows = [{"x": RNG.standard_normal((2, 1, 64)).astype(np.float32)} for _ in range(8)]
    assert recentre(made, find(made)[0], rows[:7], ctx) == 0
    assert recentre(made, find(made)[0], rows, ctx) == 1
