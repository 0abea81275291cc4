"""Sites that int8 makes slower stay in float; the times are planted, what follows from them is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import gate, registry
from optc.gate import Entry, GateResult, Judgement
from optc.gating import lowerings_of
from optc.passbase import Context
from optc.passes.quantize.choice import latency
from optc.passes.quantize.choice.latency import Saving
from optc.pipeline import Pipeline, Record

RNG = np.random.default_rng(0)
BODY = """(float[n,128] x) => (float[n,64] y) {
    a = MatMul(x, u)  t = Tanh(a)  b = MatMul(t, v)  r = Relu(b)  y = MatMul(r, w) }"""
SHAPES = {"u": (128, 128), "v": (128, 64), "w": (64, 64)}


def made() -> ir.Model:
    weights = {name: RNG.standard_normal(shape) / 10 for name, shape in SHAPES.items()}
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {BODY}')
    for name, weight in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(proto)


def run(model: ir.Model, text: str = "quantize", **given: Any) -> tuple[ir.Model, Record]:
    example = {"x": np.ones((4, 128), np.float32)}
    ctx = Context(target=registry.find_target("cpu"), examples=[example], **given)
    result, [record] = Pipeline.parse(text).run(model, ctx)
    return result, record


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[latency.Kind]:
    """int8 takes twice as long where 64 columns come of 128, and half as long elsewhere."""
    kinds: list[latency.Kind] = []

    def timed(kind: latency.Kind, ctx: Context) -> tuple[float, float]:
        kinds.append(kind)
        return (1e-5, 2e-5) if kind[1:] == (128, 64) else (2e-5, 1e-5)

    monkeypatch.setattr(latency, "_timed", timed)
    return kinds


def test_what_is_slower_in_int8_stays_in_float(asked: list[latency.Kind]) -> None:
    model, record = run(made(), times=True)
    assert [node.name for node in model.graph if node.op_type == "MatMul"] == ["b"]
    [skip] = record.report.skipped
    assert skip.node == "b" and "int8 is not faster here: 10 us in float, 20 us in int8" in skip.reason
    assert record.report.decisions == {"quantize: b": "float"}
    assert len(asked) == len(set(asked)) == 6  # three products, at the two batch sizes of the gate


def test_a_kind_is_the_shape_of_the_input_and_of_the_weight() -> None:
    kinds = latency._kinds(made(), ["a", "b"], {"n": 2})
    assert kinds == {"a": ((2, 128), 128, 128), "b": ((2, 128), 128, 64)}


def test_nothing_is_timed_where_that_is_not_allowed(asked: list[latency.Kind]) -> None:
    _, record = run(made())
    assert not asked and not record.report.decisions and record.report.matched["int8 dynamic site"] == 3


def test_a_scheme_that_was_named_is_not_timed(asked: list[latency.Kind]) -> None:
    _, record = run(made(), "quantize{scheme=int8-dynamic}", times=True)
    assert not asked and record.report.matched["int8 dynamic site"] == 3


def test_decisions_are_taken_as_they_were(asked: list[latency.Kind]) -> None:
    first, record = run(made(), times=True)
    count = len(asked)
    again, replayed = run(made(), decided=dict(record.report.decisions))
    assert len(asked) == count
    assert [n.op_type for n in again.graph] == [n.op_type for n in first.graph]
    assert "earlier artifact" in replayed.report.skipped[0].reason


def test_slower_is_slower_at_every_shape() -> None:
    assert Saving({"a": (1.0, 2.0), "b": (1.0, 1.1)}).slower
    assert not Saving({"a": (1.0, 2.0), "b": (1.0, 0.9)}).slower
    assert not Saving({"a": (1.0, 1.01)}).slower  # within what timing can tell
    assert Saving({"a": (4.0, 2.0), "b": (1.0, 2.0)}).gain == 0.5


def test_a_real_product_is_timed() -> None:
    plain, int8 = latency._timed(((2, 3, 32), 32, 16), Context(target=registry.find_target("cpu")))
    assert plain > 0 and int8 > 0


def test_the_artifact_keeps_them_and_replays_to_the_byte(
    asked: list[latency.Kind], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pays(*_: Any, **__: Any) -> Judgement:
        return Judgement(Entry("quantize", "kept", "faster", 0.5, 0.49, 0.51, 3), {"as given": (1.0, 0.5)})

    monkeypatch.setattr(gate, "pays", pays)
    monkeypatch.setattr(gate, "choose", lambda *_, **__: GateResult({}))
    example = {"x": RNG.standard_normal((4, 128)).astype(np.float32)}
    model = made()
    first = optc.compile(model, inputs=example, level=2, gate=True, output=tmp_path / "first")
    assert first.manifest.decisions["quantize: b"] == "float"
    assert "quantize: b" not in lowerings_of(first.manifest.decisions)
    optc.compile(model, inputs=example, level=2, decisions=tmp_path / "first", output=tmp_path / "again")
    assert (tmp_path / "first/model.onnx").read_bytes() == (tmp_path / "again/model.onnx").read_bytes()
