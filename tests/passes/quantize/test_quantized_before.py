"""Models that came with quantized parts: kept to the bit where that is promised, never doubled, and told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import onnxruntime.quantization as ortq
import pytest
from onnxruntime.quantization.calibrate import CalibrationDataReader
from typer.testing import CliRunner

import optc
from optc import match, oracle, registry
from optc.cli import app
from optc.passbase import Context
from optc.pipeline import Pipeline
from optc.session import open_session, run_session

RNG = np.random.default_rng(0)
ROWS, COLUMNS = 64, 48
W = (RNG.standard_normal((ROWS, COLUMNS)) / 8).astype(np.float32)
BEHIND = (RNG.standard_normal((COLUMNS, 96)) / 7).astype(np.float32)
X = RNG.standard_normal((6, ROWS)).astype(np.float32)
SCALE = (np.abs(W).max(axis=0) / 127).astype(np.float32)
CODES = np.rint(W / SCALE).astype(np.int8)


def parse(nodes: str, constants: dict[str, np.ndarray], opset: int = 21, rows: str = "n") -> ir.Model:
    """The quantized ``nodes`` from x to h, and behind them a product in float."""
    text = f"""<ir_version: 11, opset_import: ["": {opset}, "com.microsoft": 1]>
        g (float[{rows},64] x) => (float[{rows},96] y) {{ {nodes}  r = Relu(h)  y = MatMul(r, behind) }}"""
    proto = onnx.parser.parse_model(text)
    for name, array in {**constants, "behind": BEHIND}.items():
        proto.graph.initializer.append(ir.to_proto(ir.tensor(array, name=name)))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def ops(artifact: optc.Artifact) -> Counter[str]:
    return Counter(node.op_type for node in artifact.model.graph)


def passed(artifact: optc.Artifact, name: str) -> dict[str, Any]:
    return next(entry for entry in artifact.report["passes"] if entry["name"] == name)


def relative(actual: Any, expected: Any) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def blocked(bits: int, signed: bool, zero: bool, block: int, turned: bool) -> dict[str, np.ndarray]:
    """Codes of W in blocks of rows, scales, and zero points, as DequantizeLinear takes them."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    dtype: Any = getattr(ml_dtypes, f"{'' if signed else 'u'}int{bits}", None) or np.dtype(
        f"{'' if signed else 'u'}int{bits}"
    )
    shape = (ROWS // block, COLUMNS)
    made = {
        "codes": RNG.integers(low, high + 1, W.shape).astype(dtype),
        "scale": RNG.uniform(0.01, 0.02, shape).astype(np.float32),
    }
    if zero:
        made["zero"] = RNG.integers(low, high + 1, shape).astype(dtype)
    return {name: np.ascontiguousarray(array.T if turned else array) for name, array in made.items()}


@pytest.mark.parametrize("turned", [False, True], ids=["MatMul", "Gemm transB"])
@pytest.mark.parametrize("zero", [True, False], ids=["zero points", "none"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 64), (8, 32)])
def test_weights_in_blocks_get_a_kernel_that_computes_what_the_graph_says(
    bits: int, block: int, signed: bool, zero: bool, turned: bool
) -> None:
    inputs = "codes, scale, zero" if zero else "codes, scale"
    product = "Gemm <transB = 1> (x, w)" if turned else "MatMul(x, w)"
    nodes = f"w = DequantizeLinear <axis = {int(turned)}, block_size = {block}> ({inputs})  h = {product}"
    model = parse(nodes, blocked(bits, signed, zero, block, turned))
    expected = oracle.run(model, {"x": X})["y"]
    made = optc.compile(model, inputs={"x": X}, level=1, gate=False, threads=1)
    assert ops(made)["MatMulNBits"] == 1
    assert relative(made.run({"x": X})["y"], expected) < 1e-5


@pytest.mark.parametrize("block", [8, 32])
def test_weights_in_blocks_without_a_kernel_are_multiplied_in_float(block: int) -> None:
    """No kernel takes 8 rows, and none is asked for here with 32: there the runtime would round the input."""
    nodes = f"w = DequantizeLinear <axis = 0, block_size = {block}> (codes, scale)  h = MatMul(x, w)"
    model = parse(nodes, blocked(8, True, False, block, False))
    expected = oracle.run(model, {"x": X})["y"]
    ctx = Context(target=registry.find_target("cpu"), lowerings={"weight-quant": "inline"})
    made, _ = Pipeline.parse("fuse, legalize").run(model, ctx)
    assert not {"MatMulNBits", "DequantizeLinear"} & {node.op_type for node in made.graph}
    assert made.graph.initializers["codes"].dtype == ir.DataType.INT8  # as the file has them
    assert relative(run_session(open_session(made, threads=1), {"x": X})["y"], expected) < 1e-5


@pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 31),
    reason="ONNX Runtime 1.30 fails to run DequantizeLinear with a scale of another type than its result",
)
def test_scales_of_another_type_than_the_product_are_not_taken_for_its_own() -> None:
    constants = blocked(4, False, True, 32, False)
    constants["scale"] = constants["scale"].astype(np.float16)
    nodes = """w = DequantizeLinear <axis = 0, block_size = 32, output_dtype = 1> (codes, scale, zero)
        h = MatMul(x, w)"""
    model = parse(nodes, constants, opset=23)
    expected = oracle.run(model, {"x": X})["y"]
    made = optc.compile(model, inputs={"x": X}, level=1, gate=False, threads=1)
    assert relative(made.run({"x": X})["y"], expected) < 1e-5


PAIRS = "q = QuantizeLinear(x, step, at)  d = DequantizeLinear(q, step, at)"
STEP = {"step": np.float32(8 / 255), "at": np.uint8(128)}
WEIGHT = {"codes": CODES, "scale": SCALE, "zero": np.zeros(COLUMNS, np.int8)}
QUANTIZED = {
    "QDQ": (
        f"{PAIRS}  w = DequantizeLinear <axis = 1> (codes, scale, zero)  h = MatMul(d, w)",
        {**STEP, **WEIGHT},
    ),
    "QDQ in 16 bits": (
        f"{PAIRS}  w = DequantizeLinear <axis = 1> (codes, scale, zero)  h = MatMul(d, w)",
        {"step": np.float32(8 / 65535), "at": np.uint16(32768), **WEIGHT},
    ),
    "QDQ in float8": (
        f"{PAIRS}  w = DequantizeLinear <axis = 1> (codes, scale, zero)  h = MatMul(d, w)",
        {"step": np.float32(0.02), "at": np.zeros((), ml_dtypes.float8_e4m3fn), **WEIGHT},
    ),
    "QGemm": (
        "q = QuantizeLinear(x, step, at)  h = com.microsoft.QGemm(q, step, at, codes, scale, zero)",
        {**STEP, **WEIGHT},
    ),
    "QLinearMatMul": (
        """q = QuantizeLinear(x, step, at)  p = QLinearMatMul(q, step, at, codes, one, none, wide, at2)
        h = DequantizeLinear(p, wide, at2)""",
        {
            **STEP,
            "codes": CODES,
            "one": np.float32(SCALE.max()),
            "none": np.int8(0),
            "wide": np.float32(0.05),
            "at2": np.uint8(120),
        },
    ),
    "MatMulIntegerToFloat": (
        """q, s, z = DynamicQuantizeLinear(x)
        h = com.microsoft.MatMulIntegerToFloat(q, codes, s, scale, z, zero)""",
        WEIGHT,
    ),
    "DynamicQuantizeMatMul": ("h = com.microsoft.DynamicQuantizeMatMul(x, codes, scale, zero)", WEIGHT),
    "int4 by column": (
        "w = DequantizeLinear <axis = 1> (codes, scale)  h = MatMul(x, w)",
        {"codes": np.rint(CODES / 18.2).astype(ml_dtypes.int4), "scale": SCALE * np.float32(18.2)},
    ),
}


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static", "int4-weight"])
@pytest.mark.parametrize("kind", QUANTIZED)
def test_only_what_is_in_float_is_quantized(kind: str, scheme: str) -> None:
    model = parse(*QUANTIZED[kind])
    expected = oracle.run(model, {"x": X})["y"]
    text = f"simplify, quantize{{scheme={scheme}}}, fuse"
    samples = [{"x": x} for x in np.random.default_rng(1).standard_normal((24, 6, ROWS), np.float32)]
    made = optc.compile(model, inputs={"x": X}, pipeline=text, calibration=samples, threads=1)
    found = passed(made, "quantize")
    named = {
        "int8-dynamic": "int8 dynamic site",
        "int8-static": "int8 site",
        "int4-weight": "weight in 4 bits",
    }
    assert found["matched"][named[scheme]] == 1
    [told] = [skip["reason"] for skip in found["skipped"]]
    assert "quantized already" in told
    assert relative(made.run({"x": X})["y"], expected) < (0.15 if scheme == "int4-weight" else 0.03)


@pytest.mark.parametrize("at", [np.uint8(128), np.int8(0), np.int8(-5)])
@pytest.mark.parametrize("product", ["MatMul(d, w)", "Gemm(d, w, b)", "Gemm <transB = 1> (d, t, b)"])
def test_codes_of_the_model_are_not_rounded_again(product: str, at: Any) -> None:
    """Dynamic int8 takes the grid that an input has; what comes behind has none yet."""
    bias = RNG.standard_normal(COLUMNS).astype(np.float32)
    given = {name: array for name, array in {"w": W, "t": W.T.copy(), "b": bias}.items() if name in product}
    model = parse(f"{PAIRS}  h = {product}", {**STEP, "at": at, **given})
    expected = oracle.run(model, {"x": X})["y"]
    made = optc.compile(
        model, inputs={"x": X}, pipeline="simplify, quantize{scheme=int8-dynamic}, fuse", threads=1
    )
    done = passed(made, "quantize")["matched"]
    assert (done["int8 dynamic site"], done["int8 site"]) == (1, 1)
    rounded = [node for node in made.model.graph if node.op_type == "DynamicQuantizeLinear"]
    assert all(match.producer(node.inputs[0], "DequantizeLinear") is None for node in rounded)
    codes = {node.inputs[0].dtype for node in made.model.graph if node.op_type == "MatMulIntegerToFloat"}
    assert codes <= {ir.DataType.UINT8}  # the kernels are made for them
    assert relative(made.run({"x": X})["y"], expected) < 0.015


def test_int8_codes_that_others_read_stay_as_they_are() -> None:
    """Another node takes the codes of the pair; what reads the pair gets the same bits from uint8."""
    nodes = (
        f"{PAIRS}  g = MatMul(d, w)  a = DequantizeLinear(q, step, at)  k = ReduceSum(a, axis)  h = Add(g, k)"
    )
    constants = {**STEP, "at": np.int8(-5), "w": W, "axis": np.array([1])}
    model = parse(nodes, constants)
    made = optc.compile(
        model, inputs={"x": X}, pipeline="quantize{scheme=int8-dynamic, exclude=y}", threads=1, gate=False
    )
    assert passed(made, "quantize")["matched"]["int8 site"] == 1
    assert relative(made.run({"x": X})["y"], oracle.run(model, {"x": X})["y"]) < 0.015


def test_attention_and_recurrence_in_int8_stay_and_are_told() -> None:
    step, zero = np.float32(0.002), np.int8(0)
    attention = """q, s, z = DynamicQuantizeLinear(x)
        h = com.microsoft.QAttention <num_heads = 4> (q, codes, bias, s, step, , z, zero)"""
    constants = {
        "codes": RNG.integers(-127, 128, (64, 144)).astype(np.int8),
        "bias": np.zeros(144, np.float32),
        "step": step,
        "zero": zero,
    }
    recurrence = """t, state, cell = com.microsoft.DynamicQuantizeLSTM <hidden_size = 48>
            (x, codes, again, bias, , , , , step, zero, step2, zero2)
        h = Squeeze(t, axis)"""
    gates = {
        "codes": RNG.integers(-127, 128, (1, 64, 192)).astype(np.int8),
        "again": RNG.integers(-127, 128, (1, 48, 192)).astype(np.int8),
        "bias": np.zeros((1, 384), np.float32),
        "axis": np.array([1]),
        **{name: np.array([step]) for name in ("step", "step2")},
        **{name: np.array([zero]) for name in ("zero", "zero2")},
    }
    x = np.random.default_rng(1).standard_normal((2, 6, 64), np.float32)
    for nodes, given in ((attention, constants), (recurrence, gates)):
        model = parse(nodes, given, rows="b,n")
        made = optc.compile(model, inputs={"x": x}, level=2, gate=False, threads=1)
        [told] = [s for s in passed(made, "quantize")["skipped"] if "quantized already" in s["reason"]]
        assert passed(made, "quantize")["matched"] == {"int8 dynamic site": 1}, told
        assert relative(made.run({"x": x})["y"], oracle.run(model, {"x": x})["y"]) < 0.03


class _Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter([{"x": image} for image in IMAGES])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


IMAGES = RNG.standard_normal((6, 1, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional net as QLinear operators, but for its second convolution."""
    folder = tmp_path_factory.mktemp("operators")
    text = """<ir_version: 10, opset_import: ["": 17]>
        g (float[1,3,12,12] x) => (float[1,10] y) {
            a = Conv <pads = [1,1,1,1]> (x, w1)  b = Relu(a)
            c = Conv <pads = [1,1,1,1]> (b, w2)  d = Relu(c)
            e = Conv (d, w3)  s = GlobalAveragePool(e)  f = Flatten(s)  y = Gemm <transB = 1> (f, w4, bias)
        }"""
    model = onnx.parser.parse_model(text)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (32, 16, 1, 1), "w4": (10, 32), "bias": (10,)}
    for name, shape in shapes.items():
        weight = RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:], dtype=int))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, folder / "float.onnx")
    ortq.quantize_static(
        folder / "float.onnx",
        folder / "operators.onnx",
        _Samples(),
        quant_format=ortq.QuantFormat.QOperator,
        activation_type=ortq.QuantType.QUInt8,
        weight_type=ortq.QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=["c"],
    )
    return folder


def test_the_rest_of_a_net_of_int8_operators_is_quantized_on_the_command_line(
    operators: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "samples.npz", x=IMAGES[:, 0])
    call = [
        "compile",
        str(operators / "operators.onnx"),
        "-o",
        str(tmp_path / "made"),
        "-O",
        "2",
        "--no-gate",
    ]
    result = CliRunner().invoke(app, [*call, "--calib", str(tmp_path / "samples.npz"), "--threads", "1"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "made/report.json").read_text())
    found = next(entry for entry in report["passes"] if entry["name"] == "quantize")
    assert found["matched"]["int8 site"] == 1 and not found["reverted"]
    assert sum("quantized already" in skip["reason"] for skip in found["skipped"]) == 3
    plain = ir.load(operators / "float.onnx")
    made = optc.load(tmp_path / "made")
    expected = np.concatenate([oracle.run(plain, {"x": image})["y"] for image in IMAGES])
    actual = np.concatenate([made.run({"x": image})["y"] for image in IMAGES])
    assert relative(actual, expected) < 0.03


def test_what_a_runtime_has_fused_is_told() -> None:
    model = parse('h = com.microsoft.FusedGemm <activation = "Relu"> (x, w)', {"w": W})
    made = optc.compile(model, inputs={"x": X}, pipeline="quantize{scheme=int8-dynamic}", threads=1)
    [told] = [skip["reason"] for skip in passed(made, "quantize")["skipped"]]
    assert "com.microsoft.FusedGemm comes from a runtime's own optimizer" in told
