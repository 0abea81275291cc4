"""Capture from ONNX: what ONNX Runtime loads arrives whole, and nothing of the user's is changed."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path

import backend_suite
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from optc.capture import opset
from optc.capture.onnx_file import load_onnx
from optc.capture.onnx_memory import from_ir, from_proto
from optc.errors import InvalidModel

Node = helper.make_node


def value(name: str, shape: object = (2, 2), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def proto(
    *nodes: onnx.NodeProto, imports: object = (("", 20),), ir_version: int = 10, **graph: object
) -> onnx.ModelProto:
    inputs, outputs = graph.pop("inputs", [value("x")]), graph.pop("outputs", [value("y", None)])
    made = helper.make_graph(list(nodes), "g", inputs, outputs, **graph)
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports]
    return helper.make_model(made, opset_imports=opsets, ir_version=ir_version)


def weight(name: str = "w") -> onnx.TensorProto:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(2, 2), name)


def with_data_file(folder: Path, data: bytes, dims: list[int], offset: int = 0) -> Path:
    tensor = TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    tensor.external_data.add(key="offset", value=str(offset))
    (folder / "w.bin").write_bytes(data)
    path = folder / "model.onnx"
    inputs = [value("x", [1])]
    path.write_bytes(
        proto(Node("Add", ["x", "w"], ["y"]), inputs=inputs, initializer=[tensor]).SerializeToString()
    )
    return path


def mapping_of(array: np.ndarray) -> object:
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    data = np.arange(8, dtype=np.float32)
    model = load_onnx(with_data_file(tmp_path, data.tobytes(), [2, 2], offset=8))
    array = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(array, data[2:6].reshape(2, 2))
    assert isinstance(mapping_of(array), mmap.mmap)
    assert not array.flags.writeable


def test_tensors_of_one_file_share_one_mapping(tmp_path: Path) -> None:
    """A handle per tensor would run out on models with thousands of them."""
    model = proto(Node("Sum", [f"w{i}" for i in range(2000)], ["y"]), inputs=[])
    for index in range(2000):
        tensor = model.graph.initializer.add(name=f"w{index}", dims=[1], data_type=1, data_location=1)
        tensor.external_data.add(key="location", value="w.bin")
        tensor.external_data.add(key="offset", value=str(4 * index))
    (tmp_path / "w.bin").write_bytes(np.arange(2000, dtype=np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        values = load_onnx(tmp_path / "model.onnx").graph.initializers
        assert [values[f"w{i}"].const_value.numpy()[0] for i in (0, 7, 1999)] == [0, 7, 1999]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_weights_over_two_gigabytes(tmp_path: Path) -> None:
    """The data file is sparse; only what is looked at is read."""
    rows = 700_000_000
    path = with_data_file(tmp_path, b"", [rows])
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(4 * rows)
        file.seek(4 * (rows - 1))
        file.write(np.float32(7).tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = load_onnx(path).graph.initializers["w"].const_value.numpy()
    assert array.nbytes > 1 << 31 and array[-1] == 7 and array[0] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_source_may_be_replaced_after_it_was_loaded(tmp_path: Path) -> None:
    """An artifact can be written over the folder of its own source (by renaming new files into it)."""
    model = load_onnx(with_data_file(tmp_path, np.ones(4, np.float32).tobytes(), [2, 2]))
    fresh = tmp_path / "new"
    fresh.write_bytes(bytes(2))
    fresh.rename(tmp_path / "w.bin")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), np.ones((2, 2)))


def test_four_bit_external_data(tmp_path: Path) -> None:
    packed = np.array([0x21, 0x43], np.uint8)
    tensor = TensorProto(name="w", dims=[4], data_type=TensorProto.INT4, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(packed.tobytes())
    cast = proto(Node("Cast", ["w"], ["y"], to=1), inputs=[], initializer=[tensor], imports=[("", 21)])
    (tmp_path / "model.onnx").write_bytes(cast.SerializeToString())
    array = load_onnx(tmp_path / "model.onnx").graph.initializers["w"].const_value.numpy()
    assert array.astype(int).tolist() == [1, 2, 3, 4]


def test_proto_is_not_changed_and_not_kept() -> None:
    source = proto(Node("Add", ["x", "w"], ["y"]), initializer=[weight()], ir_version=8)
    before = source.SerializeToString()
    model = from_proto(source)
    assert source.SerializeToString() == before
    source.graph.initializer[0].raw_data = bytes(16)
    assert model.graph.initializers["w"].const_value.numpy()[1, 1] == 3


def test_ir_model_is_copied_and_shares_its_tensors() -> None:
    source = ir.from_proto(proto(Node("Add", ["x", "w"], ["y"]), initializer=[weight()]))
    text = str(source)
    copy = from_ir(source)
    copy.graph[0].op_type = "Sub"
    assert str(source) == text
    assert copy.graph.initializers["w"].const_value is source.graph.initializers["w"].const_value


def test_dangling_ir_model_is_refused() -> None:
    source = ir.from_proto(proto(Node("Add", ["x", "w"], ["y"]), initializer=[weight()]))
    source.graph[0].replace_input_with(1, ir.val("ghost", ir.DataType.FLOAT, [2, 2]))
    with pytest.raises(InvalidModel, match="ghost"):
        from_ir(source)


def test_overridable_input_stays_an_input() -> None:
    model = from_proto(
        proto(Node("Add", ["x", "w"], ["y"]), inputs=[value("x"), value("w")], initializer=[weight()])
    )
    assert [v.name for v in model.graph.inputs] == ["x", "w"] and "w" in model.graph.initializers


def test_listed_initializer_of_old_models_is_a_constant() -> None:
    """Before IR version 4 initializers had to be listed as inputs, and could not be fed."""
    old = proto(
        Node("Add", ["x", "w"], ["y"]),
        inputs=[value("x"), value("w")],
        initializer=[weight()],
        ir_version=3,
        imports=[("", 8)],
    )
    model = from_proto(old)
    assert [v.name for v in model.graph.inputs] == ["x"] and "w" in model.graph.initializers


def test_versions_are_what_the_runtime_loads() -> None:
    newest = opset.newest_opset()
    assert newest is not None and opset.newest_ir_version() <= onnx.IR_VERSION
    for ir_version, version in ((opset.newest_ir_version(), newest), (3, 7)):
        model = from_proto(proto(Node("Relu", ["x"], ["y"]), imports=[("", version)], ir_version=ir_version))
        assert model.opset_imports[""] == version
        assert model.ir_version == opset.newest_ir_version()
        backend_suite.open_plain(ir.to_proto(model).SerializeToString())


@pytest.mark.skipif(
    opset.newest_opset() >= onnx.defs.onnx_opset_version(), reason="the runtime loads everything"
)
def test_newer_opset_is_brought_down() -> None:
    newest = onnx.defs.onnx_opset_version()
    nodes = [Node("Relu", ["x"], ["t"]), Node("Cast", ["t"], ["y"], to=TensorProto.INT64)]
    source = proto(*nodes, imports=[("", newest)], outputs=[value("y", None, TensorProto.INT64)])
    model = from_proto(source)
    assert model.opset_imports[""] == opset.newest_opset()
    session = backend_suite.open_plain(ir.to_proto(model).SerializeToString())
    [y] = backend_suite.run_session(session, {"x": np.full((2, 2), 2.5, np.float32)})
    assert y.tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("spelled", ["ai.onnx", ""])
def test_default_domain_has_two_spellings(spelled: str) -> None:
    model = from_proto(proto(Node("Relu", ["x"], ["y"], domain=spelled), imports=[("ai.onnx", 20)]))
    assert model.opset_imports == {"": 20} and model.graph[0].domain == ""


def test_contrib_domain_that_is_not_imported() -> None:
    """ONNX Runtime fills in the import, so such files exist."""
    model = from_proto(proto(Node("Gelu", ["x"], ["y"], domain="com.microsoft")))
    assert model.opset_imports["com.microsoft"] == 1


def test_nodes_out_of_order_are_sorted_and_named() -> None:
    model = from_proto(
        proto(Node("Relu", ["t"], ["y"]), Node("Neg", ["x"], ["t"]), Node("Neg", ["x"], ["z"], name="Neg_t"))
    )
    assert sorted(node.name for node in model.graph) == ["Neg_t", "Neg_t_2", "Relu_y"]
    assert [node.op_type for node in model.graph].index("Neg") < [node.op_type for node in model.graph].index(
        "Relu"
    )


def test_sparse_initializer_is_written_out() -> None:
    values, places = (
        numpy_helper.from_array(np.array([5, 6], np.float32), "w"),
        numpy_helper.from_array(np.array([1, 2]), "i"),
    )
    source = proto(Node("Add", ["x", "w"], ["y"]))
    source.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 2]))
    model = from_proto(source)
    assert model.graph.initializers["w"].const_value.numpy().tolist() == [[0, 5], [6, 0]]
    assert len(source.graph.sparse_initializer) == 1


def test_dim_of_minus_one_is_unknown() -> None:
    model = from_proto(proto(Node("Relu", ["x"], ["y"]), inputs=[value("x", [-1, 2])]))
    first, second = model.graph.inputs[0].shape
    assert isinstance(first, ir.SymbolicDim) and second == 2


def test_named_dims_survive() -> None:
    model = from_proto(proto(Node("Relu", ["x"], ["y"]), inputs=[value("x", ["batch", "seq"])]))
    assert [str(dim) for dim in model.graph.outputs[0].shape] == ["batch", "seq"]


def test_function_bodies_and_their_subgraphs_survive() -> None:
    branch = [
        helper.make_graph([Node(op, ["a"], ["o"])], op, [], [value("o", None)]) for op in ("Relu", "Neg")
    ]
    body = [Node("ReduceSum", ["a"], ["s"], keepdims=0), Node("Cast", ["s"], ["c"], to=9)]
    body.append(Node("If", ["c"], ["b"], then_branch=branch[0], else_branch=branch[1]))
    source = proto(Node("F", ["x"], ["y"], domain="local"), imports=[("", 20), ("local", 1)])
    source.functions.append(
        helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    )
    feeds = {"x": np.array([[-1, 2], [3, -4]], np.float32)}
    expected = backend_suite.run_session(backend_suite.open_plain(source.SerializeToString()), feeds)
    model = ir.to_proto(from_proto(source)).SerializeToString()
    np.testing.assert_array_equal(backend_suite.run_session(backend_suite.open_plain(model), feeds), expected)


def compare(case: backend_suite.Case, folder: Path) -> None:
    expected = backend_suite.plain_ort(case)
    if expected is None:
        return
    path = folder / "loaded.onnx"
    ir.save(load_onnx(case.path(folder)), path)
    session = backend_suite.open_plain(path)
    for (feeds, _), outputs in zip(case.data_sets, expected, strict=True):
        for want, found in zip(outputs, backend_suite.run_session(session, feeds), strict=True):
            assert backend_suite.mismatch(want, found, 0, 0) is None


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator"])
def test_conformance_suites_load(kind: str, tmp_path: Path) -> None:
    """Loaded and saved, a model computes bit for bit what the file does."""
    for case in backend_suite.iter_cases((kind,)):
        compare(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["node", "pytorch-converted"])  # test_backend_suites.py loads the light one
def test_large_conformance_suites_load(kind: str, tmp_path: Path) -> None:
    for case in backend_suite.iter_cases((kind,)):
        compare(case, tmp_path)
