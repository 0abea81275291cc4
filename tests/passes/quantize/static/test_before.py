"""Values that a model rounds itself, behind what is quantized here: one grid, one QuantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from nets import conv, floats, images, parse, quantized

from optc import match, oracle


def partly(zero: np.ndarray) -> ir.Model:
    """A convolution in float between a Relu, whose result the model rounds, and one that reads that."""
    body = """(float[N,3,8,8] x) => (float[N,8,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, v)  r = Relu(a)  q = QuantizeLinear(r, scale, zero)
        d = DequantizeLinear(q, scale, zero)  k = DequantizeLinear(codes, steps, none)
        y = Conv<pads=[1,1,1,1]>(d, k) }"""
    weights = {"v": conv(8, 3), "codes": np.rint(40 * floats(8, 8, 3, 3, seed=1)).astype(np.int8)}
    return parse(body, **weights, steps=np.float32(0.005), none=np.int8(0), scale=np.float32(0.02), zero=zero)


def doubled(model: ir.Model) -> int:
    """How many values are rounded right behind a DequantizeLinear."""
    rounding = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    return sum(match.producer(node.inputs[0], "DequantizeLinear") is not None for node in rounding)


def test_the_grid_of_the_model_is_taken_and_its_rounding_is_not_doubled() -> None:
    plain, samples = partly(np.uint8(0)), images(8, 3, 8, 8)
    outcome = quantized(plain, samples)
    assert outcome.report.matched["int8 site"] == 1 and doubled(outcome.model) == 0
    rounding = [node for node in outcome.model.graph if node.op_type == "QuantizeLinear"]
    assert len(rounding) == 2, "the image, and behind the Relu"
    assert oracle.Oracle(plain, samples).compare(outcome.model).rel_l2 < 0.02


@pytest.mark.parametrize("zero", [np.int8(-128)])
def test_another_type_of_codes_keeps_its_own(zero: np.ndarray) -> None:
    plain, samples = partly(zero), images(8, 3, 8, 8)
    outcome = quantized(plain, samples)
    assert outcome.report.matched["int8 site"] == 1
    assert oracle.Oracle(plain, samples).compare(outcome.model).rel_l2 < 0.02
