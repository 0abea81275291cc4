"""Models that are well typed and fail when they run: refused if they cannot be opened, else told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import optc
from optc import driver
from optc.errors import UserError
from optc.ledger import render

FLOAT = TensorProto.FLOAT


def model(node: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in (("x", [2, 3]), ("y", None)))
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node, helper.make_node("Add", ["x", "t"], ["y"])], "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def scan() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Neg", ["a"], ["b"])]
    body = helper.make_graph(nodes, "b", [value("a", FLOAT, None)], [value("b", FLOAT, None)])
    return model(helper.make_node("Scan", ["x"], ["t"], body=body, num_scan_inputs=5))


def far() -> onnx.ModelProto:
    rows = {"w": np.ones((2, 3), np.float32), "i": np.array(77, np.int64)}
    return model(helper.make_node("Gather", ["w", "i"], ["t"], name="pick"), **rows)


def test_what_the_runtime_cannot_open_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    onnx.save(scan(), tmp_path / "scan.onnx")
    with pytest.raises(UserError, match="num_scan_inputs") as caught:
        driver.compile(tmp_path / "scan.onnx", gate=False, output=tmp_path / "made" / "out")
    assert caught.value.where == str(tmp_path / "scan.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.onnx"]


def test_what_fails_on_the_sample_inputs_is_compiled_with_a_note() -> None:
    """Other inputs may work; the reason is shown where the error would be."""
    artifact = optc.compile(far(), gate=False)
    (note,) = artifact.report["final"]["detail"]["notes"]
    assert note.startswith("not compared: the captured model fails on the sample inputs") and "pick" in note
    screen = Console(width=400)
    with screen.capture() as shown:
        screen.print(render(artifact.report))
    assert "note: not compared: the captured model fails" in shown.get()
