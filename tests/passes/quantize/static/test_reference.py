"""The plain graph is the reference: int8 kernels are within one step of it, for every kind of operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import CPU, conv, floats, images, parse, quantized, runtime_ops, steps

from optc import oracle, verify
from optc.passbase import Context
from optc.pipeline import Pipeline
from optc.session import open_session, run_session

SAME = "pads=[1,1,1,1]"
SPATIAL = {
    "Conv": (f"m = Conv<{SAME}>(d, w, b)", "QLinearConv"),
    "Conv without bias": (f"m = Conv<{SAME}>(d, w)", "QLinearConv"),
    "depthwise Conv": (f"m = Conv<group=4, {SAME}>(d, deep, b)", "QLinearConv"),
    "strided Conv": (f"m = Conv<strides=[2,2], {SAME}>(d, w, b)", "QLinearConv"),
    "Relu": (f"c = Conv<{SAME}>(d, w, b)  m = Relu(c)", "QLinearConv"),
    "Clip": (f"c = Conv<{SAME}>(d, w, b)  m = Clip(c, zero, six)", "QLinearConv"),
    "Add": ("m = Add(d, e)", "QLinearAdd"),
    "Add and Relu": ("c = Add(d, e)  m = Relu(c)", "QLinearAdd"),
    "Mul": ("m = Mul(d, e)", "QLinearMul"),
    "Concat": ("m = Concat<axis=1>(d, e)", "QLinearConcat"),
    "AveragePool": ("m = AveragePool<kernel_shape=[2,2], strides=[2,2]>(d)", "QLinearAveragePool"),
    "GlobalAveragePool": ("m = GlobalAveragePool(d)", "QLinearGlobalAveragePool"),
    "MaxPool": ("m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(d)", "MaxPool"),
    "Sigmoid": ("m = Sigmoid(d)", "QLinearSigmoid"),
    "LeakyRelu": ("m = LeakyRelu<alpha=0.1>(d)", "QLinearLeakyRelu"),
}
PRODUCTS = {
    "Gemm": ("m = Gemm(d, w, b)", "QGemm"),
    "Gemm transposed": ("m = Gemm<transB=1>(d, w, b)", "QGemm"),
    "MatMul": ("m = MatMul(d, w)", "QLinearMatMul"),
}


@pytest.mark.parametrize("kind", SPATIAL)
def test_spatial_operators(kind: str, tmp_path: Path) -> None:
    nodes, kernel = SPATIAL[kind]
    body = f"""(float[N,4,6,6] x) => (float[N,C,H,W] m, float[N,3,H,W] y)
        <float s = {{0.03}}, float r = {{0.05}}, uint8 z = {{120}}, float zero = {{0.0}}, float six = {{1.5}}>
        {{
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
        n = QuantizeLinear(x, r, z)  e = DequantizeLinear(n, r, z)
        {nodes}  y = Conv(m, last) }}"""
    weights = {"w": conv(4, 4), "deep": conv(4, 1), "b": floats(4)}
    last = conv(3, 8 if kind == "Concat" else 4, 1)
    used = {name: array for name, array in weights.items() if f", {name}" in nodes}
    _within_one_step(body, {**used, "last": last}, (4, 6, 6), kernel, tmp_path)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products(kind: str, tmp_path: Path) -> None:
    nodes, kernel = PRODUCTS[kind]
    body = f"""(float[N,16] x) => (float[N,16] m, float[N,3] y) <float s = {{0.03}}, uint8 z = {{120}}> {{
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  {nodes}  y = MatMul(m, last) }}"""
    weights = {"w": floats(16, 16, scale=0.25), "b": floats(16)}
    used = {name: array for name, array in weights.items() if f", {name}" in nodes}
    _within_one_step(body, {**used, "last": floats(16, 3)}, (16,), kernel, tmp_path)


def _within_one_step(
    body: str, weights: dict[str, np.ndarray], shape: tuple[int, ...], kernel: str, folder: Path
) -> None:
    outcome = quantized(parse(body, **weights), images(4, *shape))
    ctx = Context(target=CPU)
    program, _ = Pipeline.parse("simplify, fuse, legalize").run(outcome.model.clone(), ctx)
    verify.verify(program, target=CPU)
    ops = runtime_ops(program, folder)
    assert any(op in (kernel, f"Nhwc{kernel}") for op in ops)
    assert ops.count("DequantizeLinear") <= 2  # what becomes outputs: the operator itself reads codes
    scale = outcome.model.graph.initializers["m_scale"].const_value
    assert scale is not None
    session = open_session(program)
    for feeds in images(3, *shape, seed=50):
        expected, found = oracle.run(outcome.model, feeds)["m"], run_session(session, feeds)["m"]
        assert steps(expected, found, float(scale.numpy())) <= 1.001
        assert len(np.unique(expected)) > 3
