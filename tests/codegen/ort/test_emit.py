"""Programs are self-contained, run in a stock runtime, and are the same bytes for the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from optc.codegen.ort import emit, kernels


def model(width: int = 4) -> ir.Model:
    text = f"""<ir_version: 8, opset_import: ["": 18, "unused.domain": 3]>
    g (float[B,{width}] x) => (float[B,{width}] y) {{ m = MatMul(x, w) b = Add(m, c)
      y = com.microsoft.QuickGelu<alpha=1.0>(b) }}"""
    made = ir.from_proto(onnx.parser.parse_model(text))
    rng = np.random.default_rng(0)
    arrays = {"c": rng.standard_normal(width), "w": rng.standard_normal((width, width)), "unused": np.ones(3)}
    for name, array in arrays.items():
        tensor = ir.tensor(array.astype(np.float32), name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        made.graph.register_initializer(value)
        for node in made.graph:
            for i, old in enumerate(node.inputs):
                if old is not None and old.name == name:
                    node.replace_input_with(i, value)
    made.metadata_props["anything"] = "else"
    first = next(iter(made.graph))
    first.metadata_props.update({"zeta": "1", "optc.source": "model.py:3", "alpha": "2"})
    return made


def run(path: Path, width: int) -> np.ndarray:
    x = np.linspace(-1, 1, 2 * width, dtype=np.float32).reshape(2, width)
    return ort.InferenceSession(str(path)).run(None, {"x": x})[0]


@pytest.mark.parametrize("width,files", [(4, ["model.onnx"]), (600, ["model.onnx", "model.onnx.data"])])
def test_runs_in_a_stock_runtime(tmp_path: Path, width: int, files: list[str]) -> None:
    source = model(width)
    assert emit.emit(source, tmp_path, {}) == files
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    assert run(tmp_path / "model.onnx", width).shape == (2, width)
    written = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert written.ir_version == kernels.newest_ir_version()
    assert {o.domain for o in written.opset_import} == {"", "com.microsoft"}
    assert [i.name for i in written.graph.initializer] == ["w", "c", "unused"]
    assert [p.key for p in written.graph.node[0].metadata_props] == ["optc.source"]
    assert source.ir_version == 8
    assert "anything" in source.metadata_props  # the model itself is untouched


@pytest.mark.parametrize("width", [4, 600])
def test_same_bytes_again(tmp_path: Path, width: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emit.emit(model(width), tmp_path / name, {})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_large_weights_are_page_aligned(tmp_path: Path) -> None:
    emit.emit(model(600), tmp_path, {})
    written = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    offsets = [int(e.value) for i in written.graph.initializer for e in i.external_data if e.key == "offset"]
    assert offsets
    assert all(offset % 4096 == 0 for offset in offsets)


def test_weights_mapped_from_files_that_vanish_stay_readable(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    emit.emit(model(600), first, {})
    expected = run(first / "model.onnx", 600)
    loaded = ir.load(first / "model.onnx")
    emit.emit(loaded, second, {})
    for file in first.iterdir():
        file.unlink()
    np.testing.assert_array_equal(run(second / "model.onnx", 600), expected)
    third = tmp_path / "third"
    third.mkdir()
    emit.emit(loaded, third, {})  # still holds what was mapped
    np.testing.assert_array_equal(run(third / "model.onnx", 600), expected)


def test_large_constant_nodes_become_weights(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 18]>
    g (float[N] x) => (float[N] y) { s = Constant<value_ints=[300000]>() z = Reshape(x, s) y = Add(z, c) }"""
    made = ir.from_proto(onnx.parser.parse_model(text))
    big = ir.node("Constant", [], {"value": ir.tensor(np.ones(300000, np.float32))})
    made.graph.insert_before(next(iter(made.graph)), big)
    add = list(made.graph)[-1]
    add.replace_input_with(1, big.outputs[0])
    assert emit.emit(made, tmp_path, {}) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx").stat().st_size < 5000
