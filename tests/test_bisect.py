"""`optc bisect` names the pass and the rewrite that is wrong, wherever one is planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
import torch

import optc.passes.fuse as fuse
from optc import registry, rewrite
from optc.bisect import bisect_data, halving, in_order
from optc.capture import capture
from optc.cli import run_command
from optc.passbase import Context
from optc.pipeline import Pipeline, run_pass
from optc.trail import Rewrite, Trail

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


PRODUCTS, BAD, WIDTH = 5, 3, 16


def products(*, narrow: bool) -> ir.Model:
    """Linear layers of which one cannot be rounded.

    A large entry of it meets a zero: only the small ones count, which round to nothing beside it. With
    ``narrow`` all weights but those of that one are bfloat16 already.
    """
    inputs = ", ".join(f"float[{WIDTH},{WIDTH}] w{i}" for i in range(PRODUCTS))
    lines = " ".join(f"x{i + 1} = MatMul(x{i}, w{i})" for i in range(PRODUCTS))
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[4,{WIDTH}] x0, {inputs}) => (float[4,{WIDTH}] x{PRODUCTS}) {{ {lines} }}"""
    )
    rng = np.random.default_rng(0)
    for place, value in enumerate(model.graph.inputs[1:]):
        matrix = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 4
        if narrow and place != BAD:
            matrix = matrix.astype(ir.DataType.BFLOAT16.numpy()).astype(np.float32)
        if place == BAD - 1:
            matrix[:, 1] = 0
        if place == BAD:
            matrix[1] = 1e4
        value.const_value = ir.tensor(matrix, name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize(
    "pipeline",
    [
        pytest.param("quantize{scheme=int8-dynamic, smooth=none, granularity=tensor}", id="dynamic"),
        pytest.param("quantize{scheme=int8-weight, group=16}", id="weights"),
        pytest.param("quantize{scheme=int8-static, granularity=tensor, bias-correct=false}", id="static"),
        pytest.param("cast{to=bf16}", id="cast"),
    ],
)
@pytest.mark.parametrize("every", [False, True], ids=["halving", "every"])
def test_the_site_of_a_lossy_pass_is_named(pipeline: str, every: bool) -> None:
    narrow = pipeline.startswith("cast")
    feeds = {"x0": np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)}
    found = bisect_data(
        products(narrow=narrow),
        max_error=1e-6 if narrow else 0.3,
        pipeline=pipeline,
        inputs=feeds,
        calibration=[feeds],
        every=every,
    )["culprit"]
    assert (found["pass"], found["of"]) == (pipeline.partition("{")[0], PRODUCTS)
    assert found["rewrite"]["number"] == BAD + 1
    assert found["rewrite"]["nodes"][0].startswith("MatMul")
    assert found["before"] < found["after"]


def test_passes_that_remove_blocks_and_tokens_end_at_a_limit() -> None:
    """What lets bisect name the block."""
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    module = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()
    with torch.no_grad():
        captured = capture(module, (torch.zeros(1, 12, 16),))
    for text, name in (
        ("skip-layers{count=2, method=uniform}", "block removed"),
        ("merge-tokens{r=2}", "tokens reduced"),
    ):
        counts = []
        for limit in (None, 1, 0):
            [step] = Pipeline.parse(text).passes
            ctx = Context(target=registry.find_target("cpu"), trail=Trail(limit=limit))
            report = run_pass(step, captured.model.clone(), ctx)
            assert report.changed == (limit != 0)
            assert {rewrite.name for rewrite in ctx.trail.rewrites} == ({name} if limit != 0 else set())
            counts.append(sum(report.matched.values()))
        assert counts[0] > counts[1] == 1 > counts[2] == 0
