"""Small networks as ONNX text, with random weights, and what the tests ask of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from optc import oracle, registry, verify
from optc.difference import Difference
from optc.passbase import Context, Feeds, Report
from optc.passes.quantize.static import Settings, quantize_static
from optc.session import open_session

CPU = registry.find_target("cpu")


def floats(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).normal(size=shape) * scale).astype(np.float32)


def conv(out: int, into: int, size: int = 3, seed: int = 0) -> np.ndarray:
    return floats(out, into, size, size, seed=seed, scale=(2 / (into * size * size)) ** 0.5)


def parse(body: str, opset: int = 20, **constants: np.ndarray) -> ir.Model:
    """A model from ``(inputs) => (outputs) { nodes }`` with initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\ng {body}')
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
        for graph in (attribute.g for attribute in node.attribute):
            for inner in graph.node:
                inner.name = f"{inner.output[0]}_node"
    return ir.from_proto(proto)


def residual_net(opset: int = 20) -> ir.Model:
    """A stem, a residual block, a stride, a mean over space and a linear layer: a small ResNet."""
    body = """(float[N,3,12,12] x) => (float[N,5] y) {
        c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)  r1 = Relu(c1)  m = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r1)
        c2 = Conv<pads=[1,1,1,1]>(m, w2, b2)  r2 = Relu(c2)
        c3 = Conv<pads=[1,1,1,1]>(r2, w3)  a = Add(c3, m)  r3 = Relu(a)
        g = GlobalAveragePool(r3)  f = Flatten(g)  y = Gemm<transB=1>(f, w4, b4) }"""
    weights = {"w1": conv(8, 3), "w2": conv(8, 8, seed=1), "w3": conv(8, 8, seed=2), "w4": floats(5, 8)}
    return parse(body, opset, **weights, b1=floats(8), b2=floats(8, seed=3), b4=floats(5))


def depthwise_net(spread: float = 1.0) -> ir.Model:
    """An inverted residual as in MobileNetV2; ``spread`` > 1 makes its channels uneven."""
    body = """(float[N,4,8,8] x) => (float[N,4,8,8] y) <float zero = {0.0}, float six = {6.0}> {
        c1 = Conv(x, w1, b1)  r1 = Clip(c1, zero, six)
        c2 = Conv<group=16,pads=[1,1,1,1]>(r1, w2, b2)  r2 = Clip(c2, zero, six)
        c3 = Conv(r2, w3)  y = Add(c3, x) }"""
    uneven = np.geomspace(1, 1 / spread, 16).astype(np.float32)
    w1, w2, w3 = conv(16, 4, 1), conv(16, 1, seed=1), conv(4, 16, 1, seed=2)
    w1 *= uneven[:, None, None, None]
    w2 *= uneven[::-1, None, None, None] / uneven[:, None, None, None]
    w3 /= uneven[::-1][None, :, None, None]
    return parse(body, w1=w1, w2=w2, w3=w3, b1=floats(16) * uneven, b2=floats(16, seed=2) * uneven[::-1])


def images(count: int, *shape: int, seed: int = 7) -> list[Feeds]:
    return [{"x": floats(2, *shape, seed=seed + i)} for i in range(count)]


@dataclass
class Outcome:
    model: ir.Model
    report: Report
    error: Difference

    def ops(self) -> list[str]:
        return [node.op_type for node in self.model.graph]


def quantized(model: ir.Model, samples: list[Feeds], settings: Settings | None = None) -> Outcome:
    """Quantizes a copy; verified, and compared with the original on the samples."""
    copy = model.clone()
    report = quantize_static(copy, samples, Context(target=CPU), settings)
    verify.verify(copy, interface=verify.interface_of(model), after="quantize")
    return Outcome(copy, report, oracle.Oracle(model, samples).compare(copy))


def runtime_ops(model: ir.Model, folder: object) -> list[str]:
    """The operators that ONNX Runtime executes once it has optimized the model."""
    path = f"{folder}/optimized.onnx"
    open_session(model, options={"optimized_model_filepath": path})
    return [node.op_type for node in ir.load(path).graph]


def steps(expected: np.ndarray, actual: np.ndarray, scale: float) -> float:
    """The largest difference in units of a grid's step."""
    return float(np.abs(expected - actual).max() / scale)
