"""Products with a scale per token: numpy and the plain graph agree, and rows do not know of each other."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from linears import relative, rounded

from optc import oracle
from optc.passes.quantize import per_token

RNG = np.random.default_rng(0)
W = RNG.standard_normal((48, 20)).astype(np.float32)
SCALES = (np.abs(W).max(axis=0) / 127).astype(np.float32)
CODES = np.rint(W / SCALES).astype(np.int8)
BIAS = RNG.standard_normal(20).astype(np.float32)
SIZES = np.exp(2 * RNG.standard_normal((2, 7, 1))).astype(np.float32)
X = (RNG.standard_normal((2, 7, 48)) * SIZES).astype(np.float32)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "none"])
def test_the_graph_and_numpy_agree_to_the_bit(bias: bool) -> None:
    inputs, rest = per_token.body(bias=bias).split(" => (y) ")
    constants = {"w": CODES, "scale": SCALES, **({"bias": BIAS} if bias else {})}
    assert inputs == f"({', '.join(['x', *constants])})"
    text = f'<ir_version: 10, opset_import: ["": 21]> g (float[B,S,48] x) => (float[B,S,20] y) {rest}'
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    x = X.copy()
    x[0, 0] = 0
    found = oracle.run(ir.from_proto(proto), {"x": x})["y"]
    np.testing.assert_array_equal(found, per_token.product(x, CODES, SCALES, BIAS if bias else None))


def test_the_codes_use_their_whole_range_in_every_row() -> None:
    codes, scales = per_token.codes_of_rows(X)
    assert (np.abs(codes).max(axis=-1) == 127).all() and scales.shape == (2, 7, 1)
    assert (np.abs(codes * scales - X) <= scales * 0.5001).all()


def test_a_massive_token_costs_the_others_nothing() -> None:
    alone = per_token.product(X, CODES, SCALES)
    massive = X.copy()
    massive[0, 0] *= 1e4
    np.testing.assert_array_equal(per_token.product(massive, CODES, SCALES)[0, 1:], alone[0, 1:])
    by_row, with_one_scale = per_token.product(massive, CODES, SCALES)[0, 1:], (rounded(massive) @ W)[0, 1:]
    expected = (massive @ W)[0, 1:]
    assert relative(by_row, expected) < 0.015 < 0.5 < relative(with_one_scale, expected)


def test_a_row_of_zeros_is_the_bias() -> None:
    np.testing.assert_array_equal(
        per_token.product(np.zeros((1, 48), np.float32), CODES, SCALES, BIAS), [BIAS]
    )
