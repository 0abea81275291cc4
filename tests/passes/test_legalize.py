"""Legalize takes the lowering that was decided, says why one was refused, and leaves no call behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx
import onnx_ir as ir
import pytest

from optc import registry, rewrite
from optc.errors import UserError
from optc.passbase import Context
from optc.passes.legalize import Legalize
from optc.target import Layout, Lowering, Target

Lower = Callable[[ir.Node, ir.Function, ir.Model], "list[ir.Value] | str"]


def to(op: str) -> Lower:
    def lower(call: ir.Node, function: ir.Function, model: ir.Model) -> list[ir.Value] | str:
        node = ir.node(op, list(call.inputs))
        call.graph.insert_before(call, node)
        return list(node.outputs)

    return lower


def refuse(call: ir.Node, function: ir.Function, model: ir.Model) -> list[ir.Value] | str:
    return "it is Tuesday"


TARGET = Target(
    name="toy",
    summary="",
    pipelines={},
    legal=lambda model, node: None,
    lowerings=(
        Lowering("Twice", "Never", "twice", refuse),
        Lowering("Twice", "Neg", "twice", to("Neg")),
        Lowering("Twice", "Abs", "twice", to("Abs")),
    ),
    emit=lambda model, directory, options: [],
    load=lambda directory, options: None,
)


def model(subgraph: bool = False) -> ir.Model:
    body = "t = optc.Twice(x) s = optc.Twice(t)"
    if subgraph:
        body = "t = If (c) <then_branch = a () => (float[N] p) { p = optc.Twice(x) },"
        body += " else_branch = b () => (float[N] q) { q = Identity(x) }>  s = Identity(t)"
    text = f"""<ir_version: 10, opset_import: ["": 18, "optc": 1]>
    g (float[N] x, bool c) => (float[N] s) {{ {body} }}
    <domain: "optc", opset_import: ["": 18]> Twice (v) => (w) {{ w = Add(v, v) }}"""
    return ir.from_proto(onnx.parser.parse_model(text))


def ops(made: ir.Model) -> list[str]:
    return [node.op_type for node in made.graph.all_nodes()]


def run(made: ir.Model, **decisions: str):
    return Legalize().run(made, Context(target=TARGET, lowerings=decisions))


def test_first_lowering_that_accepts() -> None:
    made = model()
    report = run(made)
    assert ops(made) == ["Neg", "Neg"]
    assert report.changed
    assert report.detail["lowered"] == {"Twice -> Neg": 2}
    assert not report.skipped  # a refusal is news only where nothing else took the call
    assert made.graph.outputs[0].name == "s"
    assert not made.functions
    assert "optc" not in made.opset_imports


def test_decided_lowering() -> None:
    made = model()
    report = run(made, twice="Abs")
    assert ops(made) == ["Abs", "Abs"]
    assert not report.skipped


def test_undone_family() -> None:
    made = model()
    report = run(made, twice="inline")
    assert ops(made) == ["Add", "Add"]
    assert report.detail["inlined"] == {"Twice": 2}


def test_kind_without_lowering_is_inlined() -> None:
    made = model()
    Legalize().run(made, Context(target=replace(TARGET, lowerings=())))
    assert ops(made) == ["Add", "Add"]


def test_calls_in_subgraphs() -> None:
    made = model(subgraph=True)
    run(made)
    assert sorted(ops(made)) == ["Identity", "Identity", "If", "Neg"]
    branch = next(n for n in made.graph if n.op_type == "If").attributes["then_branch"].as_graph()
    assert branch.outputs[0].name == "p"


def test_unknown_decision_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no lowering 'Ngo'(.|\n)*did you mean 'Neg'"):
        run(model(), twice="Ngo")
    with pytest.raises(UserError, match="no family 'twise'"):
        run(model(), twise="Neg")


def test_second_run_changes_nothing() -> None:
    made = model()
    run(made)
    assert not run(made).changed
    assert ops(made) == ["Neg", "Neg"]


def test_the_pass_is_found_and_the_cpu_target_has_unique_lowerings() -> None:
    assert registry.find_pass("legalize") is Legalize
    lowerings = registry.find_target("cpu").lowerings
    assert len({(one.kind, one.name) for one in lowerings}) == len(lowerings)
    families: dict[str, set[str]] = {}
    for one in lowerings:
        families.setdefault(one.kind, set()).add(one.family)
    assert all(len(found) == 1 for found in families.values())
    assert rewrite.DOMAIN == "optc"


def test_a_layout_is_applied_behind_lowering_unless_it_is_undone() -> None:
    def swap(node: ir.Node, model: ir.Model) -> list[ir.Value] | None:
        return to("Sign")(node, None, model)  # type: ignore[arg-type,return-value]

    layout = Layout("signs", "arrangement", lambda node: node.op_type == "Neg", swap)
    target = replace(TARGET, layouts=(layout,))
    assert target.families == {"twice": ["Never", "Neg", "Abs"], "arrangement": ["signs"]}
    made = model()
    report = Legalize().run(made, Context(target=target))
    assert ops(made) == ["Sign", "Sign"] and report.matched["signs"] == 2
    made = model()
    Legalize().run(made, Context(target=target, lowerings={"arrangement": "inline"}))
    assert ops(made) == ["Neg", "Neg"]
    with pytest.raises(UserError, match="no lowering 'sings' of the family 'arrangement'"):
        Legalize().run(model(), Context(target=target, lowerings={"arrangement": "sings"}))
