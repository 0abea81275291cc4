"""`optc bisect` names the pass and the rewrite that is wrong, wherever one is planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import optc.passes.fuse as fuse
from optc import rewrite
from optc.bisect import bisect_data, halving, in_order
from optc.cli import run_command
from optc.trail import Rewrite

LAYERS = 9
LINES = " ".join(f"s{i} = Sigmoid(x{i})  x{i + 1} = Mul(x{i}, s{i})" for i in range(LAYERS))
TEXT = f"""<ir_version: 10, opset_import: ["": 20]>
g (float[batch,4] x0) => (float[batch,4] y, int64[batch,1] top) {{
    {LINES}
    y = Identity(x{LAYERS})
    top = ArgMax<axis=1>(y)
}}"""


class Planted(rewrite.Pattern):
    """SiLU, right but for one site."""

    name: ClassVar[str] = "planted"
    family: ClassVar[str] = "silu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Sigmoid"})
    wrong_at: ClassVar[str] = "x6"

    def match(self, node: ir.Node, model: ir.Model) -> rewrite.Match | None:
        x = node.inputs[0]
        product = next(iter(node.outputs[0].uses())).node
        gate = "Tanh" if x is not None and x.name == self.wrong_at else "Sigmoid"
        body = f"(x) => (y) {{ gate = {gate}(x) y = Mul(x, gate) }}"
        return rewrite.Match("Planted", [x], [product.outputs[0]], body, {}, [node, product])


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(TEXT)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "patterns", lambda: [Planted()])


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("every", [False, True])
def test_a_planted_wrong_rewrite_is_named(model: ir.Model, every: bool) -> None:
    found = bisect_data(model, max_error=1e-3, pipeline="simplify, fuse", every=every)
    assert [row["pass"] for row in found["passes"]] == ["simplify", "fuse"]
    culprit = found["culprit"]
    assert (culprit["pass"], culprit["of"]) == ("fuse", LAYERS)
    assert culprit["rewrite"]["name"] == "planted" and culprit["rewrite"]["number"] == 7
    assert any("s6" in node or "x7" in node for node in culprit["rewrite"]["nodes"])
    assert culprit["before"] <= 1e-3 < culprit["after"]
    assert len(culprit["probes"]) <= (8 if every else 5)
    assert culprit["first"] is every


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("site", ["x0", f"x{LAYERS - 1}"])
def test_the_first_and_the_last_rewrite_are_found_too(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.setattr(Planted, "wrong_at", site)
    culprit = bisect_data(model, max_error=1e-3, pipeline="fuse")["culprit"]
    assert culprit["rewrite"]["number"] == int(site[1:]) + 1


def test_a_pipeline_that_is_right_has_no_culprit(model: ir.Model) -> None:
    found = bisect_data(model, max_error=1e-4, pipeline="simplify, fuse")
    assert found["culprit"] is None
    assert [row["pass"] for row in found["passes"]] == ["simplify", "fuse", "legalize"]
    assert all(row["error"] <= 1e-4 for row in found["passes"])


def test_a_rewrite_whose_model_no_longer_runs_is_named(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Planted):
        def match(self, node: ir.Node, model: ir.Model) -> rewrite.Match | None:
            found = super().match(node, model)
            assert found is not None
            if found.inputs[0].name != "x3":
                return found
            body = "(x) => (y) { c = Constant<value_ints=[3,5]>() y = Reshape(x, c) }"
            return rewrite.Match("Fails", found.inputs, found.outputs, body, {}, found.nodes)

    monkeypatch.setattr(fuse, "patterns", lambda: [Fails()])
    culprit = bisect_data(model, max_error=1e-3, pipeline="fuse")["culprit"]
    assert culprit["rewrite"]["number"] == 4 and "no longer runs" in culprit["reason"]


def test_where_errors_cancel_every_finds_the_first_and_halving_a_true_step() -> None:
    over = [False, False, True, True, False, False, False, True, True]
    assert in_order(8, over.__getitem__) == 2
    step = halving(8, over.__getitem__)
    assert over[step] and not over[step - 1]


@pytest.mark.usefixtures("planted")
def test_the_command_prints_and_writes_json(
    model: ir.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, inputs = tmp_path / "m.onnx", tmp_path / "x.npz"
    ir.save(model, path)
    np.savez(inputs, x0=np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4))
    command = ["bisect", str(path), "--pipeline", "fuse", "--max-error", "1e-3", "--inputs", str(inputs)]
    assert run_command(command) == 0
    shown = capsys.readouterr().out
    assert "fuse, rewrite 7 of 9: planted" in shown and "--every" in shown
    assert run_command([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Rewrite(**found["culprit"]["rewrite"]).number == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.onnx", "--max-error", "1"], "gone.onnx"),
        (["{model}"], "--max-error"),
        (["{model}", "--max-error", "1", "--pipeline", "fuze"], "did you mean 'fuse'"),
        (["{model}", "--max-error", "1", "--inputs", "{model}"], "npz"),
    ],
)
def test_what_is_wrong_with_the_request_is_a_user_error(
    model: ir.Model,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    path = tmp_path / "m.onnx"
    ir.save(model, path)
    assert run_command(["bisect", *(text.format(model=path) for text in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_draws_random_numbers_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[2] x) => (float[2] y) { r = RandomNormalLike(x)  y = Add(x, r) }"""
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    assert run_command(["bisect", str(tmp_path / "m.onnx"), "--max-error", "1"]) == 2
    assert "random numbers" in capsys.readouterr().err
