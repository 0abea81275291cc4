"""All schemes in any order with the passes around them, and on models that were quantized elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx_ir as ir
import onnxruntime.quantization as ortq
import pytest
from encoders import LAYERS, encoder, samples
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from optc import oracle, registry
from optc.passbase import Context, Report
from optc.pipeline import Pipeline

SKIP, MERGE = "skip-layers{ratio=0.34}", "merge-tokens"
ORDERS = {
    "first": "QUANTIZE, SKIP, MERGE, fuse",
    "between": "SKIP, QUANTIZE, MERGE, fuse",
    "last": "SKIP, MERGE, QUANTIZE, fuse",
    "fused before": "fuse, QUANTIZE, SKIP, fuse, MERGE",
}
SCHEMES = ("int8-dynamic", "int8-static", "int8-weight")


def run(model: ir.Model, text: str) -> tuple[ir.Model, dict[str, Report]]:
    """The model after a pipeline, and the reports by pass."""
    text = text.replace("SKIP", SKIP).replace("MERGE", MERGE)
    feeds = samples(model)
    ctx = Context(target=registry.find_target("cpu"), calibration=feeds, examples=feeds[:1], threads=1)
    done, records = Pipeline.parse(f"simplify, {text}, legalize").run(model.clone(), ctx)
    return done, {record.step.name: record.report for record in records}


@cache
def in_float(name: str, text: str) -> tuple[ir.Model, dict[str, Report]]:
    """The same of an encoder in float, with which schemes and orders are compared."""
    return run(encoder(name), text)


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", [pytest.param("vit", marks=pytest.mark.slow), "bert"])
def test_any_order_skips_and_merges_what_it_would_in_float(name: str, order: str, scheme: str) -> None:
    model = encoder(name)
    plain, expected = in_float(name, "SKIP, MERGE, fuse")
    done, reports = run(model, order.replace("QUANTIZE", f"quantize{{scheme={scheme}}}"))
    assert reports["skip-layers"].detail["removed"] == expected["skip-layers"].detail["removed"]
    assert sum(reports["merge-tokens"].matched.values()) == LAYERS - 1
    assert sum(reports["quantize"].matched.values()) >= (LAYERS - 1) * 6
    assert ops(done)["MultiHeadAttention"] + ops(done)["Attention"] == LAYERS - 1
    if scheme == "int8-dynamic":
        assert ops(done)["MatMulIntegerToFloat"] >= (LAYERS - 1) * 6 and not ops(done)["MatMulInteger"]
    assert oracle.Oracle(plain, samples(model)).compare(done).rel_l2 < 0.1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sharing_attention_sees_through_quantized_products(scheme: str) -> None:
    model = encoder("bert")
    text = f"quantize{{scheme={scheme}}}, share-attention, fuse"
    done, reports = run(model, text)
    plain, expected = in_float("bert", "share-attention, fuse")
    assert reports["share-attention"].matched == expected["share-attention"].matched
    assert oracle.Oracle(plain, samples(model)).compare(done).rel_l2 < 0.1


def dynamic_peer(folder: Path, left_out: bool) -> ir.Model:
    """What `quantize_dynamic` of ONNX Runtime makes of the text encoder, whole or half of its products."""
    ir.save(encoder("bert"), folder / "float.onnx")
    products = [node.name for node in encoder("bert").graph if node.op_type == "MatMul"]
    ortq.quantize_dynamic(
        folder / "float.onnx",
        folder / "int8.onnx",
        weight_type=ortq.QuantType.QInt8,
        nodes_to_exclude=products[::2] if left_out else [],
        extra_options={"MatMulConstBOnly": True},
    )
    return ir.load(folder / "int8.onnx")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_dynamically_quantized_model_is_understood_and_not_doubled(scheme: str, tmp_path: Path) -> None:
    model = dynamic_peer(tmp_path, left_out=False)
    done, reports = run(model, f"quantize{{scheme={scheme}}}, fuse")
    assert not reports["quantize"].changed
    assert ops(done)["MatMulIntegerToFloat"] == LAYERS * 6
    assert ops(done)["DynamicQuantizeLinear"] == LAYERS * 4
    assert oracle.Oracle(model, samples(model)).compare(done).exact


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_another_quantizer_left_in_float_is_quantized(scheme: str, tmp_path: Path) -> None:
    model = dynamic_peer(tmp_path, left_out=True)
    already = ops(model)["MatMulInteger"]
    products = LAYERS * 6 - already
    assert already and products
    done, reports = run(model, f"quantize{{scheme={scheme}}}, fuse")
    kind = {
        "int8-dynamic": "int8 dynamic site",
        "int8-static": "int8 site",
        "int8-weight": "weight in 8 bits",
    }
    assert reports["quantize"].matched[kind[scheme]] == products
    assert ops(done)["MatMulIntegerToFloat"] == already + (0 if scheme == "int8-weight" else products)
    assert oracle.Oracle(encoder("bert"), samples(model)).compare(done).rel_l2 < 0.1
    again, reports = run(done, f"quantize{{scheme={scheme}}}, fuse")
    assert not reports["quantize"].changed


def packed_peer(folder: Path) -> ir.Model:
    """What ONNX Runtime's quantizer of weights makes of the text encoder, but for every third product."""
    proto = ir.to_proto(encoder("bert"))
    products = [node.name for node in proto.graph.node if node.op_type == "MatMul"]
    quantizer = MatMulNBitsQuantizer(proto, block_size=32, accuracy_level=4, nodes_to_exclude=products[::3])
    quantizer.process()
    return ir.from_proto(quantizer.model.model)


@pytest.mark.parametrize(
    ("peer", "kernel"),
    [
        (lambda folder: dynamic_peer(folder, left_out=False), "MatMulIntegerToFloat"),
        (packed_peer, "MatMulNBits"),
    ],
    ids=["quantize_dynamic", "MatMulNBits"],
)
def test_layers_of_a_model_quantized_elsewhere_are_found(
    peer: Callable[[Path], ir.Model], kernel: str, tmp_path: Path
) -> None:
    model = peer(tmp_path)
    whole, _ = run(model, "fuse")
    done, reports = run(model, "SKIP, MERGE, fuse")
    assert len(reports["skip-layers"].detail["removed"]) == 1
    assert sum(reports["merge-tokens"].matched.values()) == LAYERS - 1
    assert ops(whole)[kernel] > ops(done)[kernel] > 0


def test_what_a_quantizer_of_weights_left_in_float_is_quantized(tmp_path: Path) -> None:
    model = packed_peer(tmp_path)
    already, products = ops(model)["MatMulNBits"], LAYERS * 6 - ops(model)["MatMulNBits"]
    done, reports = run(model, "quantize{scheme=int8-dynamic}, fuse")
    assert reports["quantize"].matched["int8 dynamic site"] == products > 0
    assert (ops(done)["MatMulNBits"], ops(done)["MatMulIntegerToFloat"]) == (already, products)
    assert oracle.Oracle(model, samples(model)).compare(done).rel_l2 < 0.05
