"""Single channels that dwarf the rest and have large weights: multiplied in float beside the int8 product."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from linears import ops, parse, relative, run

from optc import oracle, registry
from optc.analysis import shapes
from optc.passbase import Context
from optc.passes.quantize.smooth import smooth
from optc.passes.quantize.static.sites import find

RNG = np.random.default_rng(0)
MASSIVE = np.where(np.arange(64) == 9, 200.0, 1.0).astype(np.float32)
W = (RNG.standard_normal((64, 32)) * np.where(MASSIVE > 1, 3.0, 0.1)[:, None]).astype(np.float32)
BIAS = RNG.standard_normal(32).astype(np.float32)
SAMPLES = [{"x": RNG.standard_normal((2, 7, 64)).astype(np.float32) * MASSIVE} for _ in range(4)]
PRODUCTS = {
    "a product": "y = MatMul(x, w)",
    "a product and its bias": "p = MatMul(x, w)  y = Add(p, b)",
}


def _model(body: str) -> ir.Model:
    names = {"w": W, "b": BIAS}
    head = "(float[2,7,64] x) => (float[2,7,32] y)"
    model = parse(f"{head} {{ {body} }}", **{k: a for k, a in names.items() if f"{k})" in body})
    shapes.infer(model)
    return model


@pytest.mark.parametrize("body", PRODUCTS.values(), ids=PRODUCTS)
def test_they_are_taken_out_and_nothing_changes_in_float(body: str) -> None:
    model = _model(body)
    done = smooth(model, find(model)[0], SAMPLES, Context(target=registry.find_target("cpu")))
    [channels] = done.outliers.values()
    assert 9 in channels
    expected, actual = (oracle.run(m, SAMPLES[0])["y"] for m in (_model(body), model))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("body", PRODUCTS.values(), ids=PRODUCTS)
def test_int8_without_them_is_several_times_closer(body: str) -> None:
    text = "quantize{scheme=int8-dynamic, smooth=%s}, fuse, legalize"
    expected = oracle.run(_model(body), SAMPLES[0])["y"]
    plain, _ = run(text % "none", _model(body), SAMPLES)
    model, [record, *_] = run(text % "auto", _model(body), SAMPLES)
    errors = [relative(oracle.run(m, SAMPLES[0])["y"], expected) for m in (model, plain)]
    assert errors[0] < 0.25 * errors[1]
    assert record.report.detail["smoothing"]["outliers"]["x"].count(9) == 1
    assert "MatMulIntegerToFloat" in ops(model)


def test_even_channels_are_left_together() -> None:
    model = _model("y = MatMul(x, w)")
    even = [{"x": (s["x"] / MASSIVE).astype(np.float32)} for s in SAMPLES]
    done = smooth(model, find(model)[0], even, Context(target=registry.find_target("cpu")))
    assert not done.outliers
