"""diff finds what was changed, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from rich.console import Console

from optc.diff import diff_data, render
from optc.errors import UserError

WEIGHTS = ", ".join(str(i / 16) for i in range(16))
TEXT = f"""
<ir_version: 9, opset_import: ["" : 20, "optc" : 1]>
main (float[batch, 4] x) => (float[batch, 4] y)
<float[4, 4] w1 = {{{WEIGHTS}}}, float[4, 4] w2 = {{{WEIGHTS}}}>
{{
  m1 = MatMul(x, w1)
  r1 = Relu(m1)
  b1 = Add(x, r1)
  m2 = MatMul(b1, w2)
  r2 = Relu(m2)
  y = Add(b1, r2)
}}
"""
FEEDS = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def model(old: str = "", new: str = "") -> ir.Model:
    assert old in TEXT
    return ir.from_proto(onnx.parser.parse_model(TEXT.replace(old, new, 1)))


def text(data: dict[str, object]) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(data))
    return console.export_text()


@pytest.mark.parametrize(("before", "now"), [("nan", "1.0"), ("1.0", "nan"), ("0.0625", "1e39")])
def test_weights_that_are_no_numbers_have_new_values(before: str, now: str) -> None:
    a, b = model(), model()
    for each, number in ((a, before), (b, now)):
        weight = each.graph.initializers["w1"]
        array = np.full((4, 4), 1.0, np.float32)
        with np.errstate(over="ignore"):
            array[0, 0] = np.float32(float(number))
        weight.const_value = ir.tensor(array, name="w1")
    assert "w1: new values" in text(diff_data(a, b))


def test_a_model_is_the_same_as_itself() -> None:
    data = diff_data(model(), model(), FEEDS)
    assert data["same"] and not data["listing"] and not data["ops"] and not data["interface"]
    assert data["outputs"]["exact"] and data["outputs"]["max_abs"] == 0
    assert "the models are the same, weights included" in text(data)


def test_another_operator_shows_in_counts_listing_and_outputs() -> None:
    data = diff_data(model(), model("Relu(m2)", "Exp(m2)"), FEEDS)
    assert data["ops"] == [{"op": "Exp", "a": 0, "b": 1}, {"op": "Relu", "a": 2, "b": 1}]
    assert [line for line in data["listing"] if line.startswith("+%")] == ["+%r2: ? = Exp(%m2)"]
    assert not data["outputs"]["exact"] and data["outputs"]["rel_l2"] > 0.1
    assert "different" in text(data)


def test_a_missing_block_is_one_block_less() -> None:
    edited = model("y = Add(b1, r2)", "y = Add(b1, b1)")
    data = diff_data(model(), edited)
    assert [len(blocks) for blocks in data["blocks"]] == [2, 1]
    assert "outputs" not in data


def test_changed_weights_are_measured_and_renamed_ones_recognised() -> None:
    edited = model()
    weight = edited.graph.initializers["w2"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.5), name="w2")
    found = diff_data(model(), edited)["parameters"]
    assert [(c["name"], c["rel_l2"]) for c in found["changed"]] == [("w2", pytest.approx(0.5))]
    renamed = ir.from_proto(onnx.parser.parse_model(TEXT.replace("w1", "first")))
    found = diff_data(model(), renamed)["parameters"]
    assert found["renamed"] == [["w1", "first"]]
    assert not found["removed"] and not found["added"] and not found["changed"]


def test_another_interface_is_listed_by_name() -> None:
    data = diff_data(model(), model("main (float[batch, 4] x)", "main (float[2, 4] x)"))
    assert data["interface"] == [{"kind": "input", "name": "x", "a": "f32[batch, 4]", "b": "f32[2, 4]"}]


def test_outputs_under_another_name_are_compared_by_place() -> None:
    other = ir.from_proto(onnx.parser.parse_model(TEXT.replace(" y", " z")))
    data = diff_data(model(), other, FEEDS)
    types = dict.fromkeys("ab", "f32[batch, 4]")
    assert data["interface"] == [{"kind": "output", "name": "y", **types, "renamed": "z"}]
    assert data["outputs"]["exact"] and data["outputs"]["output"] == "y"
    assert "output y: called 'z' in b" in text(data)


def test_outputs_of_another_number_do_not_compare() -> None:
    more = model("=> (float[batch, 4] y)", "=> (float[batch, 4] y, float[batch, 4] b1)")
    data = diff_data(model(), more, FEEDS)
    assert "b1: output is there in one model only" in data["outputs"]["reason"]
    assert "outputs differ" in text(data)


def test_added_functions_are_listed() -> None:
    body = '<domain: "optc", opset_import: ["" : 20]> Act (v) => (o) { o = Relu(v) }'
    fused = ir.from_proto(onnx.parser.parse_model(TEXT.replace("Relu(m1)", "optc.Act(m1)") + body))
    data = diff_data(model(), fused, FEEDS)
    assert data["functions"] == {"removed": [], "added": ["optc::Act"]}
    assert data["outputs"]["exact"]
    assert json.loads(json.dumps(data)) == data
    assert "functions added: 1" in text(data)


@pytest.mark.parametrize("feeds", [{}, {"x": FEEDS["x"].astype(np.int64)}, {"x": FEEDS["x"][0]}])
def test_feeds_that_do_not_fit_are_a_user_error(feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError) as caught:
        diff_data(model(), model(), feeds)
    assert caught.value.where == "input x of the first model"


def test_feeds_that_are_no_input_name_the_model_and_its_inputs() -> None:
    with pytest.raises(UserError, match="the first model has no input named 'z'") as error:
        diff_data(model(), model(), {"z": FEEDS["x"]})
    assert "its inputs are x" in str(error.value)
