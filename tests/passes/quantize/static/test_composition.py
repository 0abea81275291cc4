"""Static int8 in any order with other passes, and on models that are quantized already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime.quantization as ortq
import pytest
from nets import CPU, depthwise_net, images, residual_net, runtime_ops

from optc import oracle
from optc.passbase import Context, Feeds, Report
from optc.pipeline import Pipeline

INT8 = "quantize{scheme=int8-static}"
ORDERS = (
    f"simplify, {INT8}, fuse, legalize",
    f"simplify, fuse, {INT8}, legalize",
    f"simplify, fuse, {INT8}, fuse, legalize",
    f"{INT8}, simplify, fuse, {INT8}, legalize",
    f"simplify, cast, {INT8}, fuse, legalize",
)
SAMPLES = images(6, 3, 12, 12)


def run(model: ir.Model, pipeline: str, samples: Sequence[Feeds]) -> tuple[ir.Model, list[Report]]:
    ctx = Context(target=CPU, calibration=samples, examples=samples[:1])
    done, records = Pipeline.parse(pipeline).run(model.clone(), ctx)
    return done, [record.report for record in records]


@pytest.mark.parametrize("order", ORDERS)
def test_all_orders_give_the_same_int8_operators(order: str, tmp_path: Path) -> None:
    for model, samples, convolutions in (
        (residual_net(), SAMPLES, 3),
        (depthwise_net(), images(6, 4, 8, 8), 3),
    ):
        done, _ = run(model, order, samples)
        ops = Counter(runtime_ops(done, tmp_path))
        assert ops["QLinearConv"] == convolutions and not ops["Conv"] and not ops["FusedConv"]
        assert ops["QuantizeLinear"] == 1
        assert oracle.Oracle(model, samples).compare(done).rel_l2 < 0.05


class _Reader(ortq.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._left = iter(SAMPLES)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def peer(folder: Path, form: str, left_out: list[str]) -> ir.Model:
    """What ONNX Runtime's own quantizer makes of the residual network."""
    ir.save(residual_net(), folder / "float.onnx")
    ortq.quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        _Reader(),
        quant_format=ortq.QuantFormat[form],
        per_channel=True,
        activation_type=ortq.QuantType.QUInt8,
        weight_type=ortq.QuantType.QInt8,
        nodes_to_exclude=left_out,
    )
    return ir.load(folder / "int8.onnx")


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_quantized_model_is_understood_and_not_doubled(form: str, tmp_path: Path) -> None:
    model = peer(tmp_path, form, [])
    before = Counter(node.op_type for node in model.graph)
    done, [_, report, *_] = run(model, f"simplify, {INT8}, fuse, legalize", SAMPLES)
    assert not report.changed
    assert Counter(node.op_type for node in done.graph)["QuantizeLinear"] == before["QuantizeLinear"]
    ops = Counter(runtime_ops(done, tmp_path))
    assert (ops["QLinearConv"], ops["QLinearAdd"], ops["QGemm"]) == (3, 1, 1)
    assert oracle.Oracle(model, SAMPLES).compare(done).exact


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_another_quantizer_left_in_float_is_quantized(form: str, tmp_path: Path) -> None:
    model = peer(tmp_path, form, ["c2_node", "c3_node"])
    done, [_, report, *_] = run(model, f"simplify, {INT8}, fuse, legalize", SAMPLES)
    assert report.matched["int8 site"] == 2
    ops = Counter(runtime_ops(done, tmp_path))
    assert ops["QLinearConv"] == 3 and not ops["Conv"]
    assert oracle.Oracle(residual_net(), SAMPLES).compare(done).rel_l2 < 0.05


@pytest.mark.parametrize(
    "node",
    [
        "c = QLinearConv(x, s, z, w, s, z, s, z)",
        "t = Flatten(x)  c = QLinearMatMul(t, s, z, v, s, z, s, z)",
        "t = Flatten(x)  c = com.microsoft.QGemm(t, s, z, v, s, z, , s, z)",
        "c = com.microsoft.QLinearGlobalAveragePool(x, s, z, s, z)",
        "c = com.microsoft.QLinearAdd(x, s, z, x, s, z, s, z)",
    ],
)
def test_operators_that_are_int8_already_are_left_alone(node: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
    g (uint8[N,2,3,3] x) => (float y) <float s = {{0.1}}, uint8 z = {{3}}> {{
        {node}  y = DequantizeLinear(c, s, z) }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name, shape in (("w", (4, 2, 3, 3)), ("v", (18, 4))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.uint8), name))
    for number, made in enumerate(proto.graph.node):
        made.name = f"node{number}"
    model = ir.from_proto(proto)
    samples = [{"x": np.full((2, 2, 3, 3), 7, np.uint8)}]
    done, [_, report, *_] = run(model, f"simplify, {INT8}, fuse, legalize", samples)
    assert not report.changed
    assert [n.op_type for n in done.graph if n.op_type != "Flatten"] == [
        n.op_type for n in model.graph if n.op_type != "Flatten"
    ]
    assert oracle.Oracle(model, samples).compare(done).exact


def test_any_batch_size_runs() -> None:
    done, _ = run(residual_net(), ORDERS[0], SAMPLES)
    for batch in (1, 3):
        feeds = {"x": np.concatenate([SAMPLES[0]["x"]] * 2)[:batch]}
        assert oracle.run(done, feeds)["y"].shape == (batch, 5)
        assert oracle.Oracle(residual_net(), [feeds]).compare(done).rel_l2 < 0.05
