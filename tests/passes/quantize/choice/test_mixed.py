"""Each site in the scheme that is fastest there, within the error: times are planted, errors are real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import gate, oracle, registry
from optc.gate import Entry, GateResult, Judgement
from optc.passbase import Context
from optc.passes.quantize.choice import latency
from optc.pipeline import Pipeline, Record

RNG = np.random.default_rng(0)
BODY = """(float[1,128] x) => (float[1,2048] y) {
    a = MatMul(x, u)  t = Tanh(a)  b = MatMul(t, v)  r = Relu(b)  y = MatMul(r, w) }"""
SHAPES = {"u": (128, 3072), "v": (3072, 128), "w": (128, 2048)}
SAMPLES = [{"x": RNG.standard_normal((1, 128), np.float32)} for _ in range(12)]

# Seconds of a product by the columns of its weight: the first is fastest in 4 bits, the second in 8.
TIMES = {
    3072: {"float": 9e-5, "int8-dynamic": 5e-5, "int8-weight": 4e-5, "int4-weight": 2e-5},
    128: {"float": 9e-5, "int8-dynamic": 5e-5, "int8-weight": 4e-5, "int4-weight": 4e-5},
    2048: {"float": 9e-5, "int8-dynamic": 4e-5, "int8-weight": 5e-5, "int4-weight": 5e-5},
}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(kind: latency.Kind, ctx: Context, *, in_blocks: bool) -> Mapping[str, float]:
        assert in_blocks
        return TIMES[kind[2]]

    monkeypatch.setattr(latency, "_timed", timed)


def made() -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {BODY}')
    for name, shape in SHAPES.items():
        weight = RNG.standard_normal(shape, np.float32) / np.sqrt(shape[0], dtype=np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def run(model: ir.Model, **given: Any) -> tuple[ir.Model, Record]:
    ctx = Context(
        target=registry.find_target("cpu"), examples=SAMPLES[:1], calibration=SAMPLES, threads=1, **given
    )
    result, [record] = Pipeline.parse("quantize").run(model.clone(), ctx)
    return result, record


def kinds(model: ir.Model) -> Counter[str]:
    """How weights are held: in dynamic int8, or their types in blocks."""
    found = Counter(
        str(n.inputs[0].dtype) for n in model.graph if n.op_type == "DequantizeLinear" and n.inputs[0]
    )
    return found + Counter(n.op_type for n in model.graph if n.op_type == "MatMulInteger")


def test_each_product_gets_what_is_fastest_there_within_a_wide_limit() -> None:
    model, record = run(made(), times=True, max_error=0.5)
    assert kinds(model) == {"UINT4": 1, "UINT8": 1, "MatMulInteger": 1}
    assert record.report.detail["schemes"] == {"a": "int4-weight", "b": "int8-weight"}
    assert record.report.decisions == {"quantize: a": "int4-weight", "quantize: b": "int8-weight"}
    assert record.report.matched["weight in 4 bits"] == record.report.matched["weight in 8 bits"] == 1


def test_four_bits_become_eight_where_their_error_is_too_large() -> None:
    model = made()
    narrow, record = run(model, times=True, max_error=0.06)
    assert kinds(narrow) == {"UINT8": 2, "MatMulInteger": 1}
    assert record.report.detail["choice"]["error of all sites"] > 0.06
    assert oracle.Oracle(model, SAMPLES).compare(narrow).rel_l2 < 0.06


def test_without_a_limit_nothing_gets_four_bits() -> None:
    model, record = run(made(), times=True)
    assert kinds(model) == {"UINT8": 2, "MatMulInteger": 1}
    assert "quantize: a" in record.report.decisions


def test_without_timing_all_is_dynamic() -> None:
    model, record = run(made(), max_error=0.5)
    assert kinds(model) == {"MatMulInteger": 3} and not record.report.decisions


def test_decisions_are_replayed() -> None:
    decided = {"quantize: a": "int4-weight", "quantize: b": "float"}
    model, _ = run(made(), decided=decided)
    assert kinds(model) == {"UINT4": 1, "MatMulInteger": 1}
    assert [node.name for node in model.graph if node.op_type == "MatMul"] == ["a", "b"]


def test_an_artifact_replays_them_to_the_byte(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pays(*_: Any, **__: Any) -> Judgement:
        return Judgement(Entry("quantize", "kept", "faster", 0.5, 0.49, 0.51, 3), {"as given": (1.0, 0.5)})

    monkeypatch.setattr(gate, "pays", pays)
    monkeypatch.setattr(gate, "choose", lambda *_, **__: GateResult({}))
    given: dict[str, Any] = {"inputs": SAMPLES[0], "level": 2, "calibration": SAMPLES, "max_error": 0.5}
    model = made()
    first = optc.compile(model, **given, gate=True, output=tmp_path / "first")
    assert first.manifest.decisions["quantize: a"] == "int4-weight"
    optc.compile(model, **given, decisions=tmp_path / "first", output=tmp_path / "again")
    assert (tmp_path / "first/model.onnx").read_bytes() == (tmp_path / "again/model.onnx").read_bytes()
