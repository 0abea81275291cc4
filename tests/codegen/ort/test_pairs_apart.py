"""Programs compute what QuantizeLinear and DequantizeLinear say, whatever the runtime's optimizer does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import oracle

RNG = np.random.default_rng(0)
K, N = 32, 24
INPUT = "q = QuantizeLinear(x, step, at)  d = DequantizeLinear(q, step, at)"
BEHIND = "r = QuantizeLinear(p, wide, at)  y = DequantizeLinear(r, wide, at)"
CONSTANTS: dict[str, Any] = {
    "step": np.float32(0.03),
    "at": np.uint8(120),
    "wide": np.float32(0.05),
    "w": RNG.integers(-127, 128, (K, N)).astype(np.int8),
    "square": RNG.integers(-127, 128, (K, K)).astype(np.int8),
    "one": np.float32(0.001),
    "by_row": RNG.uniform(0.0005, 0.0015, K).astype(np.float32),
    "by_column": RNG.uniform(0.0005, 0.0015, N).astype(np.float32),
    "rows": RNG.integers(-9, 10, K).astype(np.int8),
    "blocks": RNG.uniform(0.0005, 0.0015, (K // 8, N)).astype(np.float32),
    "of_blocks": RNG.integers(-9, 10, (K // 8, N)).astype(np.int8),
    "four": RNG.integers(-8, 8, (K, N)).astype(ml_dtypes.int4),
    "eight": RNG.standard_normal((K, N)).astype(ml_dtypes.float8_e4m3fn),
    "steps": RNG.uniform(0.02, 0.04, K).astype(np.float32),
    "middles": RNG.integers(100, 150, K).astype(np.uint8),
    "bias": RNG.standard_normal(N).astype(np.float32),
    "float": (RNG.standard_normal((K, N)) / 6).astype(np.float32),
}
CHANNELS: dict[str, Any] = {
    "w": RNG.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
    "scale": RNG.uniform(0.0005, 0.0015, 8).astype(np.float32),
    "steps": RNG.uniform(0.02, 0.04, 8).astype(np.float32),
    "middles": RNG.integers(100, 150, 8).astype(np.uint8),
    "float": (RNG.standard_normal((8, 8, 3, 3)) / 8).astype(np.float32),
    "bias": RNG.standard_normal(8).astype(np.float32),
    "tiny": np.array([1e-9, *[1e-3] * 7], np.float32),
    "sizes": np.array([0, 8, 36]),
}


def parse(nodes: str, shape: str, rank: int, opset: int = 21, **constants: Any) -> ir.Model:
    """From x to y, with those constants that are read."""
    sizes = ",".join("abcd"[:rank])
    signature = f"(float[{shape}] x) => (float[{sizes}] y)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}, "com.microsoft": 1]> g {signature} {{ {nodes} }}'
    )
    read = {name for node in proto.graph.node for name in node.input}
    for name, array in {**CONSTANTS, **constants}.items():
        if name in read:
            proto.graph.initializer.append(ir.to_proto(ir.tensor(np.asarray(array), name=name)))
    return ir.from_proto(proto)


def compiled(model: ir.Model, x: np.ndarray) -> optc.Artifact:
    """At -O1, which answers as without any optimization: on a grid less than one code in a hundred moves."""
    made = optc.compile(model, inputs={"x": x}, level=1, gate=False, threads=1)
    expected, actual = oracle.run(model, {"x": x})["y"], made.run({"x": x})["y"]
    if any(node.op_type == "QuantizeLinear" and node.inputs[0].name == "p" for node in model.graph):
        assert (np.abs(actual - expected) > 0.02).mean() < 0.01
    else:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    return made


def ops(made: optc.Artifact) -> Counter[str]:
    return Counter(node.op_type for node in made.model.graph)


WEIGHTS = {
    "a scale per row": "v = DequantizeLinear <axis = 0> (w, by_row, rows)",
    "a scale per row, as many as columns": "v = DequantizeLinear <axis = 0> (square, by_row, rows)",
    "a scale per block": "v = DequantizeLinear <axis = 0, block_size = 8> (w, blocks, of_blocks)",
    "float8": "v = DequantizeLinear (eight, one)",
}


@pytest.mark.parametrize("behind", ["y = MatMul(d, v)", f"p = MatMul(d, v)  {BEHIND}", "y = Gemm(d, v)"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_whose_scales_no_kernel_knows(weight: str, behind: str) -> None:
    x = RNG.standard_normal((5, K)).astype(np.float32)
    made = compiled(parse(f"{INPUT}  {WEIGHTS[weight]}  {behind}", f"n,{K}", 2), x)
    stored = {value.dtype for value in made.model.graph.initializers.values()}
    assert stored & {ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN}  # the file keeps the codes


def test_scales_per_row_are_what_numpy_computes() -> None:
    x = RNG.standard_normal((5, K)).astype(np.float32)
    made = compiled(parse(f"{INPUT}  {WEIGHTS['a scale per row']}  y = MatMul(d, v)", f"n,{K}", 2), x)
    codes = np.clip(np.rint(x / np.float32(0.03)) + 120, 0, 255) - 120
    weight = (CONSTANTS["w"].astype(float) - CONSTANTS["rows"][:, None]) * CONSTANTS["by_row"][:, None]
    np.testing.assert_allclose(made.run({"x": x})["y"], codes * np.float32(0.03) @ weight, atol=1e-4)


@pytest.mark.parametrize("behind", ["y = MatMul(d, v)", f"p = MatMul(d, v)  {BEHIND}"])
@pytest.mark.parametrize("axis", [1, 2])
def test_inputs_with_a_scale_per_row_or_column(axis: int, behind: str) -> None:
    pair = f"QuantizeLinear <axis = {axis}> (x, steps, middles)"
    back = f"DequantizeLinear <axis = {axis}> (q, steps, middles)"
    nodes = f"q = {pair}  d = {back}  v = DequantizeLinear <axis = 1> (w, by_column)  {behind}"
    compiled(parse(nodes, f"n,{K},{K}", 3), RNG.standard_normal((2, K, K)).astype(np.float32))


@pytest.mark.parametrize("product", ["MatMul(x, v)", "Gemm(x, v)", "Gemm(x, v, bias)"])
@pytest.mark.parametrize(
    "weight",
    [
        "v = DequantizeLinear <axis = 1> (w, by_column)",
        "v = DequantizeLinear (w, one)",
        "v = DequantizeLinear <axis = 1> (four, by_column)",
    ],
)
def test_an_input_in_float_stays_in_float(weight: str, product: str) -> None:
    """The runtime would round it to int8 block by block, in MatMulNBits."""
    x = RNG.standard_normal((5, K)).astype(np.float32)
    assert ops(compiled(parse(f"{weight}  y = {product}", f"n,{K}", 2), x))["DequantizeLinear"] == 0


def test_weights_are_found_behind_a_transpose() -> None:
    x = RNG.standard_normal((5, N)).astype(np.float32)
    for given, pair in (("x", ""), ("d", INPUT)):
        nodes = f"v = DequantizeLinear <axis = 1> (w, by_column)  t = Transpose(v)  y = MatMul({given}, t)"
        compiled(parse(f"{pair}  {nodes}", f"n,{N}", 2), x)


IMAGES = RNG.standard_normal((2, 8, 6, 6)).astype(np.float32)
SCALED = "q = QuantizeLinear(x, steps, middles)  d = DequantizeLinear(q, steps, middles)"


@pytest.mark.parametrize(
    ("given", "product"),
    [
        (INPUT, "v = DequantizeLinear <axis = 1> (w, scale)  p = Conv(d, v)"),
        (SCALED, "v = DequantizeLinear <axis = 0> (w, scale)  p = Conv(d, v)"),
        (INPUT, "p = Conv(d, float)"),
        (INPUT, "p = ConvTranspose(d, float)"),
        (INPUT, "v = DequantizeLinear <axis = 0> (w, tiny)  p = Conv(d, v, bias)"),
        (SCALED, "p = Add(d, x)"),
        (SCALED, "p = Add(d, d)"),
        (SCALED, "p = AveragePool <kernel_shape = [2, 2]> (d)"),
        (SCALED, "p = Concat <axis = 1> (d, d)"),
        (SCALED, "p = Sigmoid(d)"),
    ],
)
def test_channels_with_scales_of_their_own_and_weights_in_float(given: str, product: str) -> None:
    """Weights in float stay in float between pairs, and a bias beyond int32 does not saturate."""
    compiled(parse(f"{given}  {product}  {BEHIND}", "2,8,6,6", 4, **CHANNELS), IMAGES)


@pytest.mark.parametrize("wrong", ["wide", "wides"])
def test_results_with_a_scale_per_channel(wrong: str) -> None:
    scales = {"wides": np.linspace(0.03, 0.06, 8, dtype=np.float32), "ats": np.full(8, 120, np.uint8)}
    behind = BEHIND if wrong == "wide" else BEHIND.replace("wide", "wides").replace("at)", "ats)")
    nodes = f"{INPUT}  v = DequantizeLinear <axis = 0> (w, scale)  p = Conv(d, v)  {behind}"
    made = compiled(parse(nodes, "2,8,6,6", 4, **CHANNELS, **scales), IMAGES)
    assert ops(made)["Sum"] == (wrong == "wides")


@pytest.mark.parametrize("domain", ["", "com.microsoft."])
@pytest.mark.parametrize(
    ("finer", "at", "behind"),
    [
        (0.03, np.uint8(120), 0),
        (0.08, np.uint8(120), 1),
        (0.05, np.uint8(110), 1),
        (0.0003, np.uint16(30000), 0),
        (0.05, np.uint8(120), 0),
    ],
)
def test_two_pairs_in_a_row_round_twice(finer: float, at: Any, behind: int, domain: str) -> None:
    """The runtime would leave one pair, with a step between both where their ranges overlap."""
    last = {"wide": np.float32(0.05), "end": np.uint8(120) if at.dtype == np.uint8 else np.uint16(32000)}
    nodes = """q = QuantizeLinear(x, first, at)  d = DequantizeLinear(q, first, at)  i = Identity(d)
        r = QuantizeLinear(i, wide, end)  e = DequantizeLinear(r, wide, end)"""
    nodes += "  y = Relu(e)" if behind else "  y = Neg(e)"
    for name in ("QuantizeLinear", "DequantizeLinear"):
        nodes = nodes.replace(f" {name}", f" {domain}{name}")
    constants = {"first": np.float32(finer), "at": at, **last}
    compiled(parse(nodes, "2,8,6,6", 4, **constants), IMAGES)


@pytest.mark.parametrize(("parts", "hidden"), [(256, 0), (255, 1), (222.2, 1), (100, 0), (3.3, 1)])
def test_steps_of_softmax_that_its_kernel_would_round(parts: float, hidden: int) -> None:
    constants = {"step": np.float32(0.1), "wide": np.float32(1 / parts), "none": np.uint8(0)}
    nodes = f"{INPUT}  p = Softmax(d)  r = QuantizeLinear(p, wide, none)  y = DequantizeLinear(r, wide, none)"
    x = 6 * RNG.standard_normal((64, 16)).astype(np.float32)
    made = optc.compile(parse(nodes, "n,16", 2, **constants), inputs={"x": x}, gate=False, threads=1)
    codes = np.clip(np.rint(x / np.float32(0.1)) + 120, 0, 255) - 120
    powers = np.exp((codes - codes.max(-1, keepdims=True)) * np.float32(0.1))
    expected = np.rint(powers / powers.sum(-1, keepdims=True) * parts)
    actual = np.rint(made.run({"x": x})["y"] * parts)
    assert (actual != np.clip(expected, 0, 255)).mean() < 0.003
    assert ops(made)["Sum"] == hidden


MOVES = {
    "MaxPool": "m = MaxPool <kernel_shape = [2, 2]> (d)",
    "Transpose": "m = Transpose <perm = [0, 2, 3, 1]> (d)",
    "Reshape": "m = Reshape(d, sizes)",
}


@pytest.mark.parametrize("read", ["y = Neg(m)", "y = Identity(m)", "p = Exp(m)  y = Neg(p)"])
@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("move", MOVES)
def test_int8_codes_are_moved_and_then_read_in_float(move: str, opset: int, read: str) -> None:
    """From opset 21 on the runtime moves the pair behind, and leaves it half int8 and half uint8."""
    constants = {**CHANNELS, "at": np.int8(3)}
    rank = 3 if move == "Reshape" else 4
    compiled(parse(f"{INPUT}  {MOVES[move]}  {read}", "2,8,6,6", rank, opset, **constants), IMAGES)


@pytest.mark.parametrize(
    ("nodes", "shape", "rank"),
    [
        (f"{INPUT}  v = DequantizeLinear <axis = 1> (w, by_column)  p = MatMul(d, v)  {BEHIND}", f"n,{K}", 2),
        (f"{INPUT}  p = MaxPool <kernel_shape = [2, 2]> (d)  {BEHIND}", "2,8,6,6", 4),
        (f"{INPUT}  y = Relu(d)", "2,8,6,6", 4),
    ],
)
def test_what_the_runtime_reads_rightly_is_left_to_it(nodes: str, shape: str, rank: int) -> None:
    x = RNG.standard_normal((5, K)).astype(np.float32) if rank == 2 else IMAGES
    model = parse(nodes, shape, rank)
    made = compiled(model, x)
    assert ops(made) == Counter(node.op_type for node in model.graph)
