"""The figures of inspect add up, are JSON, and its tables fit a terminal whatever the names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from rich.console import Console

from optc.analysis.cost import Machine
from optc.cli import run_command
from optc.errors import UserError
from optc.inspect import inspect_data, render
from optc.inspect_view import count, shorten

MACHINE = Machine(flops_per_s=1e9, bytes_per_s=1e9)
WEIGHTS = ", ".join(str(i / 16) for i in range(16))
TEXT = f"""
<ir_version: 9, opset_import: ["" : 20, "optc" : 1]>
main (float[batch, 4] x, bool c) => (float[batch, 4] y)
<float[4, 4] stem = {{{WEIGHTS}}}, float[4, 4] w1 = {{{WEIGHTS}}}, float[4, 4] w2 = {{{WEIGHTS}}},
 float[4] inner = {{1, 2, 3, 4}}, float two = {{2.0}}>
{{
  s = MatMul(x, stem)
  m1 = MatMul(s, w1)
  r1 = Relu(m1)
  b1 = Add(s, r1)
  m2 = MatMul(b1, w2)
  r2 = Relu(m2)
  b2 = Add(b1, r2)
  d = optc.Double(b2, two)
  y = If(c) <
    then_branch = a () => (float[batch, 4] t) {{ t = Add(d, inner) }},
    else_branch = b () => (float[batch, 4] e) {{ e = Exp(d) }}
  >
}}
<domain: "optc", opset_import: ["" : 20]>
Double (v, k) => (o) {{ o = Mul(v, k) }}
"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def text(data: dict[str, object], width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(data))
    return console.export_text()


def test_groups_add_up_to_the_whole() -> None:
    data = inspect_data(model(), {"batch": 3}, machine=MACHINE)
    groups = data["groups"]
    assert [(row["name"], row["kind"]) for row in groups] == [
        ("prologue", ""), ("block 0", "mlp"), ("block 1", "mlp"), ("epilogue", "")
    ]  # fmt: skip
    for figure in ("nodes", "parameters", "flops", "bytes"):
        assert sum(row[figure] for row in groups) == data["total"][figure]
    assert sum(row["share"] for row in groups) == pytest.approx(1)
    assert sum(row["ms"] for row in data["ops"]) == pytest.approx(data["total"]["ms"])
    assert groups[1]["flops"] == 2 * 3 * 16 + 2 * 12
    assert data["total"]["parameters"] == 52 == data["model"]["weights"]["parameters"]
    assert groups[-1]["parameters"] == 4  # read inside the branch


def test_the_header_names_everything_that_a_user_asks_for() -> None:
    header = inspect_data(model(), machine=MACHINE)["model"]
    assert header["opsets"] == {"ai.onnx": 20, "optc": 1}
    assert header["inputs"][0] == {"name": "x", "type": "f32[batch, 4]"}
    assert header["functions"] == [{"name": "optc::Double", "nodes": 1, "calls": 1}]
    assert header["weights"] == {"tensors": 4, "parameters": 52, "bytes": 208}


def test_a_model_too_large_to_run_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, header = str(tmp_path / "m.onnx"), '<ir_version: 10, opset_import: ["": 20]>'
    sizes = "1000000, 1000000, 1000"
    ir.save(ir.from_onnx_text(f"{header} g (float[{sizes}] x) => (float[{sizes}] y) {{ y = Relu(x) }}"), path)
    assert run_command(["inspect", path]) == 0 and run_command(["diff", path, path]) == 0
    assert "1000 T" in capsys.readouterr().out


def test_it_is_json_and_leaves_the_model_alone() -> None:
    one = model()
    before = ir.to_proto(one).SerializeToString()
    data = inspect_data(one, machine=MACHINE)
    assert json.loads(json.dumps(data)) == data
    assert ir.to_proto(one).SerializeToString() == before


def test_a_size_that_was_not_given_is_said_to_be_assumed() -> None:
    data = inspect_data(model(), machine=MACHINE)
    assert data["assumed"] == ["batch"] and data["bind"] == {"batch": 1}
    assert "no size was given for batch: taken as 1" in text(data)
    assert "no size" not in text(inspect_data(model(), {"batch": 2}, machine=MACHINE))


def test_an_unknown_dim_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no input has a dim named 'bacth'"):
        inspect_data(model(), {"bacth": 2}, machine=MACHINE)


def test_equal_blocks_share_a_row() -> None:
    shown = text(inspect_data(model(), machine=MACHINE))
    assert "block 0\u20131 mlp \u00d72" in shown
    assert "optc::Double \u00d71" in shown


def test_long_names_do_not_break_the_tables() -> None:
    one = model()
    one.graph.name = "m" * 300
    one.graph.inputs[0].name = "layers.very" * 30
    shown = text(inspect_data(one, machine=MACHINE))
    assert max(map(len, shown.splitlines())) <= 100
    assert "\u2026" in shown and "mmmm" in shown


def test_markup_in_names_is_text() -> None:
    one = model()
    one.graph.inputs[0].name = "[red]x[/red]"
    assert "[red]x[/red]" in text(inspect_data(one, machine=MACHINE))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (22_565_376, "22.6 M"), (5 * 10**15, "5000 T")],
)
def test_counts_are_short(number: int, shown: str) -> None:
    assert count(number) == shown


def test_shortening_keeps_both_ends() -> None:
    assert shorten("encoder.layer.0.weight", 11) == "encod\u2026eight"
    assert shorten("short") == "short"


def test_ten_thousand_nodes_do_not_take_quadratic_time() -> None:
    """A quadratic step would run into the timeout of the suite."""
    x = ir.Value(name="x", shape=ir.Shape(["n", 4]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", const_value=ir.tensor(np.eye(4, dtype=np.float32), name="w"))
    nodes, current = [], x
    for _ in range(3400):
        product = ir.node("MatMul", [current, weight])
        active = ir.node("Relu", product.outputs)
        total = ir.node("Add", [current, active.outputs[0]])
        nodes += [product, active, total]
        current = total.outputs[0]
    current.type, current.shape = x.type, x.shape
    graph = ir.Graph([x], [current], nodes=nodes, initializers=[weight], opset_imports={"": 20})
    data = inspect_data(ir.Model(graph, ir_version=10), {"n": 2}, machine=MACHINE)
    assert len(data["groups"]) == 3402
    assert data["total"]["flops"] == 3400 * (2 * 2 * 16 + 16)


def test_a_size_that_depends_on_data_is_not_known() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> f (int64[3] n) => (float[k] y) <float[1] one = {1}> {
      wide = Expand(one, n)
      y = Exp(wide)
    }"""
    data = inspect_data(ir.from_proto(onnx.parser.parse_model(text)), machine=MACHINE)
    assert json.loads(json.dumps(data)) == data
    assert data["notes"] == ["a shape of Exp is not known", "a shape of Expand is not known"]
