"""Milliseconds per pass: ends that are known already, what lies between measured, when there is time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optc import lossy, registry
from optc.gate.programs import Prepared
from optc.passbase import Context, Report
from optc.pipeline import Pipeline, Record
from optc.stages import time_passes
from optc.targets.cpu import TARGET


def model(nodes: int) -> ir.Model:
    chain = "".join(f"v{i + 1} = Relu(v{i}) " for i in range(nodes))
    header = '<ir_version: 10, opset_import: ["": 20]>'
    return ir.from_onnx_text(f"{header} g (float[n] v0) => (float[n] v{nodes}) {{ {chain} }}")


class Machine:
    """A millisecond per node, on a clock of its own."""

    def __init__(self) -> None:
        self.now, self.prepared = 0.0, 0

    def clock(self) -> float:
        return self.now

    def prepare(self, what: ir.Model) -> Prepared:
        self.prepared += 1
        return Prepared(lambda: partial(self.run, 0.001 * len(list(what.graph))), self.prepared)

    def run(self, seconds: float, feeds: Any) -> None:
        self.now += seconds


def record(nodes: int, *, changed: bool = True, undone: str | None = None) -> Record:
    return Record(registry.find_pass("simplify")(), Report(changed), 0.0, model(nodes), undone=undone)


def timed(records: Sequence[Record], seconds: float = 60.0) -> tuple[list[Any], Machine]:
    machine = Machine()
    time_passes(
        records,
        model(8),
        lambda _, state: state,
        (80.0, 10.0),
        {"only": {"v0": np.ones(1)}},
        prepare=machine.prepare,
        seconds=seconds,
        clock=machine.clock,
    )
    found = [(each.findings.get("ms_before"), each.findings.get("ms_after")) for each in records]
    return [None if before is None else (before, after) for before, after in found], machine


def test_what_lies_between_is_measured_against_the_captured_model() -> None:
    found, _ = timed([record(8), record(6), record(3)])
    assert found == [
        (80.0, pytest.approx(60.0)),
        (pytest.approx(60.0), pytest.approx(30.0)),
        (pytest.approx(30.0), 10.0),
    ]


def test_one_pass_needs_no_measurement() -> None:
    found, machine = timed([record(8)])
    assert found == [(80.0, 10.0)] and machine.prepared == 0


def test_passes_that_changed_nothing_or_were_undone_are_left_out() -> None:
    found, _ = timed([record(8), record(6, changed=False), record(6, undone="slower"), record(4)])
    assert found == [(80.0, pytest.approx(40.0)), None, None, (pytest.approx(40.0), 10.0)]


def test_without_time_nothing_is_noted() -> None:
    found, machine = timed([record(8), record(6)], seconds=0.0)
    assert found == [None, None] and machine.prepared == 0


MLP = """<ir_version: 10, opset_import: ["": 21]>
g (float[1,64] x) => (float[1,64] y) <float[64,64] w = {%s}> {
    h = MatMul(x, w)  s = Sigmoid(h)  p = Mul(h, s)  y = MatMul(p, w) }"""


@pytest.mark.parametrize(
    ("scheme", "kernel"), [("int8-dynamic", "MatMulIntegerToFloat"), ("int4-weight", "MatMulNBits")]
)
def test_what_quantize_left_is_timed_with_its_kernels_and_no_other_fusion(scheme: str, kernel: str) -> None:
    """Without them it would look many times slower than it is, and the fuse behind it like a wonder."""
    plain = ir.from_onnx_text(MLP % ", ".join(map(str, np.random.default_rng(0).normal(size=4096).round(3))))
    pipeline = Pipeline.parse(f"quantize{{scheme={scheme}}}, simplify, fuse")
    ctx = Context(TARGET, ({"x": np.ones((1, 64), np.float32)},))
    done, records = pipeline.run(plain.clone(), ctx, [])
    for record, following in pairwise(records):
        made = lossy.stage(records, record, following.before, ctx, {})
        kinds = [node.op_type for node in made.graph]
        assert kinds.count(kernel) == 2 and {"Sigmoid", "Mul"} <= set(kinds), kinds
    assert not {"Sigmoid", "Mul"} <= {node.op_type for node in lossy.legal(done, ctx, {}).graph}
