"""--validate: a wrong rewrite is caught where it was applied, and right ones pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import optc
from optc import cli, registry
from optc.errors import WrongRewrite
from optc.observers import Compare
from optc.passbase import Context, Pass, Report
from optc.passes import fuse, simplify
from optc.passes.simplify.editor import Editor, Rule
from optc.pipeline import Pipeline
from optc.rewrite import Match, Pattern
from optc.trail import SOURCE, Trail
from optc.validate import Validator

HEADER = '<ir_version: 10, opset_import: ["": 20]>\n'
TEXT = """g (float[B,3] x) => (float[B,3] y) <float one = {1.0}> {
    a = Mul(x, one)
    b = Neg(a)
    c = Exp(b)
    y = Add(c, x)
}"""


def run(text: str, pipeline: str | Pipeline, feeds: dict[str, Any] | None = None) -> Validator:
    model = ir.from_onnx_text(HEADER + text)
    for node in model.graph:
        node.metadata_props[SOURCE] = f"model.py:{10 + (node.graph.index(node) if node.graph else 0)}"
    given = feeds or {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    validator = Validator([given])
    ctx = Context(target=registry.find_target("cpu"), examples=[given], trail=Trail(watchers=(validator,)))
    steps = Pipeline.parse(pipeline) if isinstance(pipeline, str) else pipeline
    steps.run(model, ctx)
    return validator


def plant(monkeypatch: pytest.MonkeyPatch, op_type: str, apply: Callable[[ir.Node, Editor], bool]) -> None:
    monkeypatch.setattr(simplify, "_RULES", (*simplify._RULES, Rule("planted", (op_type,), apply)))


def drop(node: ir.Node, editor: Editor) -> bool:
    return node.inputs[0] is not None and editor.replace(node.outputs[0], node.inputs[0])


def test_right_rewrites_pass_and_are_counted() -> None:
    validator = run(TEXT, "simplify, fuse")
    assert validator.checked["simplify"] == 1  # the neutral operand
    assert not validator.unchecked


def test_a_wrong_replacement_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "Neg", drop)
    with pytest.raises(WrongRewrite) as caught:
        run(TEXT, "simplify, fuse")
    error = caught.value
    assert error.step == "simplify"
    assert error.rewrite.name == "planted"
    assert [node.split()[0] for node in error.rewrite.nodes] == ["Neg"]
    assert error.rewrite.source == "model.py:11"
    text = str(error)
    assert (
        "'simplify'" in text and "'planted'" in text and "model.py:11" in text and "relative error 2" in text
    )


def test_small_results_of_large_inputs_are_not_taken_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_zero(node: ir.Node, editor: Editor) -> bool:
        zero = editor.model.graph.initializers["zero"]
        if node.inputs[1] is zero:
            return False
        editor.set_input(node, 1, zero)
        return True

    plant(monkeypatch, "Mul", by_zero)
    text = """g (float[3] x) => (float[3] y) <float tiny = {1e-9}, float zero = {0.0}> {
        a = Mul(x, tiny)
        y = Abs(a)
    }"""
    with pytest.raises(WrongRewrite, match="planted"):
        run(text, "simplify", {"x": np.array([1e4, 2e4, 3e4], np.float32)})


def test_compare_finds_the_same_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "Neg", drop)
    model = ir.from_onnx_text(HEADER + TEXT)
    feeds = [{"x": np.arange(6, dtype=np.float32).reshape(2, 3)}]
    compare = Compare(feeds)
    compare.start(model)
    ctx = Context(target=registry.find_target("cpu"), examples=feeds)
    _, [record] = Pipeline.parse("simplify").run(model, ctx, [compare])
    assert record.undone is not None and "changed the results" in record.undone


def test_a_wrong_edit_in_place_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def skip(node: ir.Node, editor: Editor) -> bool:
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None or before.op_type != "Neg":
            return False
        editor.set_input(node, 0, before.inputs[0])
        return True

    plant(monkeypatch, "Exp", skip)
    with pytest.raises(WrongRewrite, match="planted") as caught:
        run(TEXT, "simplify")
    assert caught.value.rewrite.nodes[0].startswith("Exp")


def test_a_wrong_rewrite_inside_a_branch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "Neg", drop)
    text = """g (bool c, float[3] x) => (float[3] y) {
        y = If (c) <
            then_branch = t () => (float[3] p) { n = Neg(x)  p = Exp(n) },
            else_branch = e () => (float[3] q) { q = Relu(x) }
        >
    }"""
    feeds = {"c": np.array(True), "x": np.array([1, 2, 3], np.float32)}
    with pytest.raises(WrongRewrite, match="planted"):
        run(text, "simplify", feeds)


def test_what_is_wrong_at_other_sizes_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example has two rows; a rule that takes that for a fact is right on it."""

    def fix(node: ir.Node, editor: Editor) -> bool:
        shape = editor.ints([2, 3], "fixed")
        return editor.replace(node.outputs[0], editor.add(node, "Reshape", [node.inputs[0], shape]))

    plant(monkeypatch, "Identity", fix)
    text = "g (float[B,3] x) => (float[B,3] y) { i = Identity(x) y = Exp(i) }"
    monkeypatch.setattr(simplify, "_RULES", (Rule("planted", ("Identity",), fix),))
    with pytest.raises(WrongRewrite, match="does not run"):
        run(text, "simplify")


def test_what_is_wrong_for_other_numbers_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of the example are positive, where Relu and Abs agree with nothing at all."""
    plant(monkeypatch, "Relu", drop)
    text = "g (float[B,3] x) => (float[B,3] y) { i = Relu(x) y = Exp(i) }"
    with pytest.raises(WrongRewrite, match="other numbers"):
        run(text, "simplify")


class Backwards(Pattern):
    """Takes a difference for its opposite."""

    name: ClassVar[str] = "backwards"
    family: ClassVar[str] = "gelu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Sub"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        body = "(a, b) => (y) { y = Sub(b, a) }"
        return Match("Backwards", list(node.inputs), [node.outputs[0]], body, {}, [node])


def test_sizes_that_do_not_fit_each_other_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime joins [2,2,0] and [3,3,0], and gives one of them; that N is 3 was made up."""
    plant(monkeypatch, "Concat", lambda node, editor: editor.replace(node.outputs[0], node.inputs[1]))
    text = """g (float[N,N,M] x) => (float[A,B,C] y) <int64[1] zero = {0}, int64[1] two = {2}> {
        none = Constant <value = float[2,2,0] {}> ()
        p = Slice(x, zero, zero, two)
        y = Concat<axis = 2>(none, p)
    }"""
    model_feeds = {"x": np.ones((2, 2, 4), np.float32)}
    validator = run(text, "simplify", model_feeds)
    assert validator.checked["simplify"] == 2  # the planted one, and the constant


def test_a_wrong_pattern_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse.Fuse, "_chosen", lambda self: [Backwards()])
    text = "g (float[B,3] x) => (float[B,3] y) { e = Exp(x) d = Sub(x, e) y = Tanh(d) }"
    with pytest.raises(WrongRewrite) as caught:
        run(text, "fuse")
    assert (caught.value.step, caught.value.rewrite.name) == ("fuse", "backwards")


def test_a_wrong_lowering_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that stands for Gelu is asked for another approximation."""
    text = """g (float[B,3] x) => (float[B,3] y)
    <float r = {1.4142135}, float one = {1.0}, float half = {0.5}> {
        d = Div(x, r)  e = Erf(d)  s = Add(e, one)  m = Mul(x, s)  h = Mul(m, half)  y = Neg(h)
    }"""
    assert run(text, "fuse, legalize").checked["legalize"] == 1

    def lower(call: ir.Node, function: ir.Function, model: ir.Model) -> list[ir.Value]:
        node = ir.node("Relu", [call.inputs[0]])
        assert call.graph is not None
        call.graph.insert_before(call, node)
        return [node.outputs[0]]

    target = registry.find_target("cpu")
    for lowering in target.lowerings:
        if lowering.kind == "Gelu":
            monkeypatch.setitem(lowering.__dict__, "lower", lower)
    with pytest.raises(WrongRewrite, match="legalize"):
        run(text, "fuse, legalize")


def test_a_broadcast_left_to_the_readers_is_no_error() -> None:
    """The And repeats the padding for every row, and the Where does so anyway."""
    text = """g (bool[B,1,1,S] keep, float[B,2,S,S] s) => (float[B,2,S,S] p) <float low = {-10000.0}> {
        shape = Shape(s)  all = ConstantOfShape<value = bool[1] {1}>(shape)
        m = And(all, keep)  w = Where(m, s, low)  p = Softmax<axis = -1>(w)
    }"""
    rng = np.random.default_rng(0)
    feeds = {
        "keep": np.array([True, False, True, True, True, False]).reshape(2, 1, 1, 3),
        "s": rng.normal(size=(2, 2, 3, 3)).astype(np.float32),
    }
    validator = run(text, "simplify", feeds)
    assert validator.checked["simplify"] >= 1


@dataclass(frozen=True)
class Halve(Pass):
    """Halves every Neg: what a lossy pass may do."""

    name: ClassVar[str] = "halve"
    exact: ClassVar[bool] = False

    def run(self, model: ir.Model, ctx: Context) -> Report:
        for node in [node for node in model.graph if node.op_type == "Neg"]:
            half = ir.node("Mul", [node.inputs[0], model.graph.initializers["one"]])
            model.graph.insert_before(node, half)
            ctx.trail.replacing(node.outputs, half.outputs)
            node.outputs[0].replace_all_uses_with(half.outputs[0])
            ctx.trail.applied("halved", [node])
        return Report(True)


def test_lossy_passes_are_exempt() -> None:
    validator = run(TEXT, Pipeline((Halve(), *Pipeline.parse("simplify").passes)))
    assert set(validator.checked) == {"simplify"}


def test_compile_validates_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ir.from_onnx_text(HEADER + TEXT)
    artifact = optc.compile(model, gate=False, validate=True)
    assert artifact.report["validation"]["checked"]["simplify"] >= 1
    assert "validation" not in optc.compile(model, gate=False).report
    plant(monkeypatch, "Neg", drop)
    with pytest.raises(WrongRewrite, match="planted"):
        optc.compile(model, gate=False, validate=True)


def test_the_command_line_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    ir.save(ir.from_onnx_text(HEADER + TEXT), path)
    arguments = ["compile", str(path), "-o", str(tmp_path / "out"), "--no-gate", "--validate"]
    assert cli.run_command(arguments) == 0
    assert "rewrites checked" in capsys.readouterr().out
    plant(monkeypatch, "Neg", drop)
    assert cli.run_command([*arguments[:3], str(tmp_path / "other"), *arguments[4:]]) == 1
    complaint = capsys.readouterr().err
    assert "'planted'" in complaint and "Neg" in complaint
    assert not (tmp_path / "other").exists()
