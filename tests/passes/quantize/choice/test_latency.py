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
from optc.passes.quantize.choice import latency, products
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

    def timed(kind: latency.Kind, ctx: Context, *, in_blocks: bool) -> dict[str, float]:
        kinds.append(kind)
        plain, int8 = (1e-5, 2e-5) if kind[1:] == (128, 64) else (2e-5, 1e-5)
        return {"float": plain, "int8-dynamic": int8}

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


def saving(*pairs: tuple[float, ...]) -> Saving:
    """Of float, dynamic int8, and weights of 8 and 4 bits where they are given, by shape."""
    names = ("float", "int8-dynamic", "int8-weight", "int4-weight")
    return Saving({str(i): dict(zip(names, times, strict=False)) for i, times in enumerate(pairs)})


def test_slower_is_slower_at_every_shape() -> None:
    assert saving((1.0, 2.0), (1.0, 1.1)).slower
    assert not saving((1.0, 2.0), (1.0, 0.9)).slower
    assert not saving((1.0, 1.01)).slower  # within what timing can tell
    assert saving((4.0, 2.0), (1.0, 2.0)).gain == 0.5


def test_blocks_are_best_where_they_are_faster_on_average() -> None:
    found = saving((4.0, 2.0, 1.0, 0.5), (4.0, 2.0, 2.5, 2.2))
    assert (found.best, found.gain) == ("int8-weight", 2.25)
    assert found.coarser == pytest.approx(0.4)
    assert saving((4.0, 1.0, 1.2, 0.99)).best == "int8-dynamic"
    assert saving((4.0, 1.0, 1.2, 0.99)).coarser == 0.0  # not clear
    assert saving((4.0, 2.0, 1.0, 0.5), (4.0, 2.0)).best == "int8-dynamic"  # not timed everywhere


@pytest.mark.parametrize(("in_blocks", "schemes"), [(True, 4), (False, 2)])
def test_real_products_are_timed(in_blocks: bool, schemes: int) -> None:
    ctx = Context(target=registry.find_target("cpu"))
    found = latency._timed(((1, 2, 32), 32, 16), ctx, in_blocks=in_blocks)
    assert len(found) == schemes and all(seconds > 0 for seconds in found.values())


def test_blocks_are_timed_where_rows_are_few_at_every_shape() -> None:
    def kind(rows: int, columns: int) -> latency.Kind:
        return ((1, rows, 8), 8, columns)

    shapes = [{"a": kind(1, 2), "b": kind(1, 3)}, {"a": kind(4, 2), "b": kind(5, 3)}]
    assert latency._with_few_rows(["a", "b"], shapes) == {kind(1, 2), kind(4, 2)}


def test_one_row_meets_weights_that_are_not_in_the_cache() -> None:
    kind = ((1, 64), 64, 2**17)
    assert products.copies(kind, 1) == 2 and products.copies(kind, 2) == 1
    model = products.made(((1, 64), 64, 32), "int4-weight", 3, Context(target=registry.find_target("cpu")))
    assert [node.op_type for node in model.graph] == ["MatMulNBits"] * 3


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
