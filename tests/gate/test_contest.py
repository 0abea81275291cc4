"""Contests open fresh sessions, time them fairly, and hold few models at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optc.errors import UserError
from optc.gate import Decisions, Judgement, choose, decisions_from_json, pays, usable
from optc.gate.contest import PLAIN, Candidate, Contest, candidate
from optc.gate.lossy import judgement
from optc.gate.programs import OrtPrograms, Prepared, Program
from optc.measure import Ratio
from optc.passbase import Feeds

FAMILIES = {"relu": ["Relu"], "neg": ["Neg", "Sub"]}


def model(ops: str) -> ir.Model:
    """A chain of unary ops; each takes a fixed time on the fake machine."""
    text, value = "", "x"
    for number, op in enumerate(ops.split()):
        text, value = text + f" v{number} = {op}({value})", f"v{number}"
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    return ir.from_onnx_text(f"{header} g (float[n] x) => (float[n] y) {{ {text} y = Abs({value}) }}")


class Machine:
    """Programs whose calls take the sum of the costs of their ops, on a clock of its own."""

    def __init__(self, **costs: float) -> None:
        self.costs, self.now, self.opened, self.alive, self.most_alive = costs, 0.0, 0, 0, 0

    def clock(self) -> float:
        return self.now

    def prepare(self, what: ir.Model) -> Prepared:
        return Prepared(partial(self.open, what), tuple(node.op_type for node in what.graph))

    def open(self, what: ir.Model) -> Program:
        self.opened += 1
        return _Session(self, sum(self.costs.get(node.op_type, 0.001) for node in what.graph))


class _Session:
    def __init__(self, machine: Machine, seconds: float) -> None:
        self.machine, self.seconds = machine, seconds
        machine.alive += 1
        machine.most_alive = max(machine.most_alive, machine.alive)

    def __call__(self, feeds: Feeds) -> None:
        self.machine.now += self.seconds * len(feeds["x"])

    def __del__(self) -> None:
        self.machine.alive -= 1


def contest(machine: Machine, build: Callable[[Candidate], ir.Model]) -> Contest:
    feeds = {"small": {"x": np.ones(1)}, "large": {"x": np.ones(4)}}
    return Contest(build, feeds, prepare=machine.prepare, clock=machine.clock)


def test_samples_of_every_challenger_at_every_shape() -> None:
    machine, one = Machine(Neg=0.009), candidate({"neg": "Neg"})
    models = {PLAIN: model("Relu"), one: model("Relu Neg")}
    found = contest(machine, models.__getitem__)(one, [PLAIN])
    assert set(found[PLAIN]) == {"small", "large"}
    sample = found[PLAIN]["large"]
    assert np.exp(sample.log_ratio) == pytest.approx(11 / 2)
    assert (sample.reference, sample.challenger) == pytest.approx((0.044, 0.008))


def test_other_programs_on_the_machine_do_not_decide() -> None:
    """Every other call of one of the two takes twenty times as long, as when it has to share the cores."""
    machine, one = Machine(Neg=0.01, Sin=0.011, Abs=0.0), candidate({"neg": "Neg"})
    models = {PLAIN: model("Sin"), one: model("Neg")}

    class Disturbed:
        def __init__(self, session: Program) -> None:
            self.session, self.calls = session, 0

        def __call__(self, feeds: Feeds) -> None:
            self.calls += 1
            for _ in range(20 if self.calls % 2 else 1):
                self.session(feeds)

    def prepare(what: ir.Model) -> Prepared:
        found = machine.prepare(what)
        return found if "Sin" in found.fingerprint else Prepared(lambda: Disturbed(found.open()), 0)  # type: ignore[operator]

    meeting = Contest(
        models.__getitem__,
        {"only": {"x": np.ones(1)}},
        prepare=prepare,
        seconds_per_shape=5.0,
        clock=machine.clock,
    )
    assert np.exp(meeting(one, [PLAIN])[PLAIN]["only"].log_ratio) == pytest.approx(1 / 1.1)


def test_sessions_are_fresh_each_time_and_models_are_built_once() -> None:
    machine, built = Machine(), list[Candidate]()

    def build(which: Candidate) -> ir.Model:
        built.append(which)
        return model("Relu")

    meeting = contest(machine, build)
    for _ in range(3):
        meeting(candidate({"a": "b"}), [PLAIN])
    assert machine.opened == 6 and len(built) == 2


def test_large_models_are_opened_one_at_a_time() -> None:
    machine, large = Machine(), model("Relu")
    weight = ir.Value(
        name="w", const_value=ir.LazyTensor(_unused, ir.DataType.FLOAT, ir.Shape([300_000_000]))
    )
    large.graph.register_initializer(weight)
    meeting = contest(machine, lambda which: large)
    found = meeting(candidate({"a": "b"}), [PLAIN, candidate({"a": "c"})])
    assert machine.most_alive == 1 and found[PLAIN]["small"].log_ratio == pytest.approx(0)


@pytest.mark.parametrize(("megabytes", "group"), [(1, 3), (90, 3), (150, 1), (200, 1), (440, 3)])
def test_no_more_sessions_at_once_than_memory_allows(megabytes: int, group: int) -> None:
    large = model("Relu")
    tensor = ir.LazyTensor(_unused, ir.DataType.FLOAT, ir.Shape([megabytes * 250_000]))
    large.graph.register_initializer(ir.Value(name="w", const_value=tensor))
    assert contest(Machine(), lambda which: large).group_size() == group


def _unused() -> ir.Tensor:
    raise AssertionError("weights are not read to be counted")


def legalized(decisions: Decisions) -> ir.Model:
    return model({"inline": "Exp", "Relu": "Relu"}[decisions["relu"]] + " " + decisions["neg"].title())


def test_choose_end_to_end_on_a_fake_machine() -> None:
    machine = Machine(Exp=0.004, Relu=0.001, Neg=0.004, Sub=0.002, Inline=0.003)
    feeds = {"only": {"x": np.ones(2)}}
    result = choose(
        model("Exp Inline"), legalized, FAMILIES, feeds, prepare=machine.prepare, clock=machine.clock
    )
    assert result.decisions == {"relu": "Relu", "neg": "Sub"}
    assert result.final is not None and result.final.ratio == pytest.approx(4 / 8)
    assert result.seconds["only"] == pytest.approx((0.016, 0.008))
    json.dumps([entry.to_json() for entry in result.ledger])


def test_shapes_that_take_too_long_are_left_out() -> None:
    machine = Machine(Inline=0.003)
    feeds = {"small": {"x": np.ones(1)}, "huge": {"x": np.ones(10_000)}}
    result = choose(
        model("Exp Inline"), legalized, FAMILIES, feeds, prepare=machine.prepare, clock=machine.clock
    )
    assert list(result.final_by_shape) == ["small"]


def test_shapes_that_the_captured_model_refuses_are_left_out() -> None:
    feeds = {"refused": {"x": np.ones((2, 2), np.float32)}, "accepted": {"x": np.ones(2, np.float32)}}
    assert list(usable(model("Relu"), OrtPrograms(), feeds, 1.0, time.perf_counter)) == ["accepted"]


def test_a_captured_model_that_does_not_run_is_not_measured() -> None:
    feeds = {"only": {"x": np.ones(2, np.float32)}}
    result = choose(model("NoSuchOp"), legalized, FAMILIES, feeds, prepare=OrtPrograms())
    assert result.decisions == {"relu": "Relu", "neg": "Neg"} and "not measured" in result.ledger[0].reason


def judged(machine: Machine, after: dict[str, str], seconds: float = 5.0) -> Judgement:
    models = {name: lambda ops=ops: model(ops) for name, ops in after.items()}
    feeds = {"small": {"x": np.ones(1)}, "large": {"x": np.ones(4)}}
    options = {"prepare": machine.prepare, "clock": machine.clock, "seconds": seconds}
    return pays(model("Exp"), models, feeds, what="prune", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cost", "verdict", "reason"),
    [
        (0.5, "kept", "faster: 2.00x (2.00 to 2.00)"),
        (1.0, "undone", "not faster beyond noise: 1.00x (1.00 to 1.00)"),
        (2.0, "undone", "slower: 0.50x (0.50 to 0.50)"),
    ],
)
def test_what_costs_accuracy_has_to_be_proven_faster(cost: float, verdict: str, reason: str) -> None:
    found = judged(Machine(Exp=0.01, Neg=0.01 * cost, Abs=0.0), {"": "Neg"})
    assert (found.entry.verdict, found.entry.reason) == (verdict, reason)
    assert found.entry.ratio == pytest.approx(cost)
    assert found.undone == (reason if verdict == "undone" else None)
    assert found.seconds["large"] == pytest.approx((0.04, 0.04 * cost))


def test_a_gain_that_may_be_noise_does_not_pay_for_accuracy() -> None:
    evidence: Any = SimpleNamespace(
        pooled=lambda *_: Ratio(1.2, 0.9, 1.6, 3), by_shape=lambda *_: {}, seconds=lambda *_: {}
    )
    found = judgement(evidence, PLAIN, candidate({}), "prune")
    assert found.undone == "not faster beyond noise: 1.20x (0.90 to 1.60)"


def test_the_best_way_to_lower_it_counts() -> None:
    machine = Machine(Exp=0.01, Neg=0.02, Sin=0.008, Cos=0.009, Abs=0.0)
    found = judged(machine, {"": "Neg", "other": "Cos", "third": "Sin"})
    assert found.entry.verdict == "kept" and found.entry.ratio == pytest.approx(0.8)


def test_a_gain_does_not_pay_for_a_shape_that_loses() -> None:
    class Uneven(Machine):
        def open(self, what: ir.Model) -> Program:
            cheap = any(node.op_type == "Neg" for node in what.graph)
            session = super().open(what)
            return _Uneven(self, session, {1: 1.1, 4: 0.3} if cheap else {1: 1.0, 4: 1.0})

    found = judged(Uneven(Exp=0.01, Neg=0.01, Abs=0.0), {"": "Neg"})
    assert found.entry.ratio is not None and found.entry.ratio < 1
    assert found.undone == "slower at small: 0.91x (0.91 to 0.91)"


class _Uneven:
    def __init__(self, machine: Machine, session: Program, factors: dict[int, float]) -> None:
        self.machine, self.session, self.factors = machine, session, factors

    def __call__(self, feeds: Feeds) -> None:
        before = self.machine.now
        self.session(feeds)
        self.machine.now = before + (self.machine.now - before) * self.factors[len(feeds["x"])]


def test_a_lossy_pass_is_judged_by_two_sessions_at_least() -> None:
    """One session has no interval, so nothing would ever be kept of a model that is slow to open."""
    found = judged(Machine(Exp=10.0, Neg=5.0, Abs=0.0), {"": "Neg"}, seconds=0.001)
    assert found.entry.sessions == 2 and found.entry.verdict == "kept"


def test_what_cannot_be_measured_is_not_kept() -> None:
    after = {"": lambda: model("Neg")}
    options = {"prepare": OrtPrograms(), "what": "prune", "seconds": 1.0}
    found = pays(model("NoSuchOp"), after, {"only": {"x": X}}, **options)  # type: ignore[arg-type]
    assert found.undone is not None and "not measured" in found.undone


X = np.ones(2, np.float32)


def test_decisions_round_trip_and_are_checked() -> None:
    decisions = {"relu": "inline", "neg": "Sub"}
    assert decisions_from_json(json.loads(json.dumps(decisions)), FAMILIES) == decisions
    with pytest.raises(UserError, match="no lowering 'Subb'"):
        decisions_from_json({"neg": "Subb"}, FAMILIES)
    with pytest.raises(UserError, match="no family 'nge'"):
        decisions_from_json({"nge": "Neg"}, FAMILIES)
    with pytest.raises(UserError, match="map families"):
        decisions_from_json(["neg"], FAMILIES)


def test_real_sessions_are_measured() -> None:
    """No figure is checked here: only that two sessions run beside each other and come out positive."""
    small, large = model("Relu"), model("Relu " * 30)
    models = {PLAIN: small, candidate({"a": "b"}): large}
    feeds = {"only": {"x": np.ones(1000, np.float32)}}
    meeting = Contest(models.__getitem__, feeds, prepare=OrtPrograms(1), seconds_per_shape=0.01)
    sample = meeting(candidate({"a": "b"}), [PLAIN])[PLAIN]["only"]
    assert sample.reference > 0 and sample.challenger > 0
