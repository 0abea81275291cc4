"""What scheme=auto chooses, which depends on the model alone."""

from __future__ import annotations

import numpy as np
from linears import ops, parse, run

from optc.passbase import Feeds

RNG = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / 8).astype(np.float32)


def images(channels: int, size: int) -> list[Feeds]:
    return [{"x": random(1, channels, size, size)} for _ in range(2)]


CONVOLUTIONS = (
    "(float[1,8,16,16] x) => (float[1,4] y)"
    "{ a = Conv<pads=[1,1,1,1]>(x, u)  r = Relu(a)  b = Conv<pads=[1,1,1,1]>(r, v)"
    "  g = GlobalAveragePool(b)  f = Flatten(g)  y = MatMul(f, w) }"
)
PATCHES = (
    "(float[1,3,32,32] x) => (float[1,64,64] y)"
    "{ a = Conv<strides=[4,4]>(x, u)  r = Reshape(a, shape)  t = Transpose<perm=[0,2,1]>(r)"
    "  p = MatMul(t, v)  q = Tanh(p)  y = MatMul(q, w) }"
)


def test_convolutions_that_do_the_work_are_static_and_take_products_with_them() -> None:
    weights = {"u": random(16, 8, 3, 3), "v": random(16, 16, 3, 3), "w": random(16, 4)}
    _, [record] = run("quantize", parse(CONVOLUTIONS, **weights), images(8, 16))
    assert record.report.detail["scheme"] == "int8-static"
    assert record.report.matched["int8 site"] == 3


def test_without_calibration_data_convolutions_stay_in_float() -> None:
    weights = {"u": random(16, 8, 3, 3), "v": random(16, 16, 3, 3), "w": random(16, 4)}
    model, [record] = run("quantize", parse(CONVOLUTIONS, **weights))
    assert record.report.detail["scheme"] == "int8-dynamic" and ops(model).count("Conv") == 2
    assert "int8-static needs calibration data" in record.report.skipped[0].reason


def test_a_convolution_in_front_of_products_leaves_the_model_dynamic() -> None:
    weights = {"u": random(64, 3, 4, 4), "v": random(64, 64), "w": random(64, 64)}
    shape = np.array([1, 64, 64], np.int64)
    model, [record] = run("quantize", parse(PATCHES, **weights, shape=shape), images(3, 32))
    assert record.report.detail["scheme"] == "int8-dynamic"
    assert ops(model).count("MatMulInteger") == 2 and ops(model).count("Conv") == 1


def test_products_of_few_operations_stay_in_float() -> None:
    """The same weight meets 256 rows in one product, and a single one in the other."""
    body = (
        "(float[256,64] x, float[1,64] z) => (float[256,64] y)"
        "{ p = MatMul(x, w)  q = MatMul(z, w)  y = Add(p, q) }"
    )
    model, [record] = run("quantize", parse(body, w=random(64, 64)))
    assert [(skip.node, skip.reason) for skip in record.report.skipped] == [
        ("q_node", "left in float: too small to pay for rounding its input")
    ]
    assert ops(model).count("MatMulInteger") == 1


def test_small_products_beside_the_convolutions_stay_in_float() -> None:
    """A table of a few numbers next to an image: what they are multiplied with never comes out of int8."""
    body = (
        "(float[1,8,16,16] x, float[1,12] t) => (float[1,4] y, float[1,4] z)"
        "{ a = Conv<pads=[1,1,1,1]>(x, u)  r = Relu(a)  m = ReduceMean<keepdims=0>(r, axes)  z = MatMul(m, w)"
        "  p = MatMul(t, v)  q = Relu(p)  c = Concat<axis=1>(m, q)  y = MatMul(c, o) }"
    )
    weights = {"u": random(16, 8, 3, 3), "v": random(12, 16), "w": random(16, 4), "o": random(32, 4)}
    samples = [{"x": random(1, 8, 16, 16), "t": np.exp(8 * random(1, 12))} for _ in range(2)]
    model = parse(body, **weights, axes=np.array([2, 3]))
    _, [record] = run("quantize", model.clone(), samples)
    assert record.report.detail["scheme"] == "int8-static"
    assert [(skip.node, skip.reason) for skip in record.report.skipped] == [
        ("p_node", "left in float: too small to pay for leaving float"),
        ("y_node", "left in float: too small to pay for leaving float"),
    ]
    assert record.report.matched["int8 site"] == 2  # the convolution, and what reads its means
    _, [record] = run("quantize{scheme=int8-static}", model, samples)
    assert record.report.matched["int8 site"] == 4


def test_where_the_number_of_rows_is_open_the_size_of_the_weight_decides() -> None:
    body = "(float[n,64] x) => (float[n,8] y) { p = MatMul(x, w)  y = MatMul(p, v) }"
    _, [record] = run("quantize", parse(body, w=random(64, 64), v=random(64, 8)))
    assert [skip.node for skip in record.report.skipped] == ["y_node"]


def test_a_scheme_that_was_named_is_used_for_small_products_too() -> None:
    body = "(float[1,8] x) => (float[1,8] y) { y = MatMul(x, w) }"
    model, [record] = run("quantize{scheme=int8-dynamic}", parse(body, w=random(8, 8)))
    assert ops(model).count("MatMulInteger") == 1 and "scheme" not in record.report.detail
