"""Sessions take weights by reference, leave the model alone, and run values of every ONNX type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc.session import open_session, run_session

HEADER = '<ir_version: 10, opset_import: ["" : 23]>\n'


def parse(text: str) -> ir.Model:
    return ir.from_onnx_text(HEADER + text)


def with_weight(array: np.ndarray) -> ir.Model:
    """y = x + w, with ``w`` over the memory of ``array``."""
    kind = {"float32": "float", "float16": "float16"}[str(array.dtype)]
    dims = ",".join(str(dim) for dim in array.shape)
    text = f"g ({kind}[{dims}] x) => ({kind}[{dims}] y) {{ y = Add(x, w) }}"
    model = parse(text)
    weight = model.graph[0].inputs[1]
    weight.name, weight.const_value = "w", ir.Tensor(array, name="w")
    model.graph.register_initializer(weight)
    return model


@pytest.mark.parametrize("optimize", [False, True])
def test_weights_are_used_where_they_are(optimize: bool) -> None:
    weight = np.ones((64, 64), np.float32)
    session = open_session(with_weight(weight), optimize=optimize)
    x = np.zeros((64, 64), np.float32)
    assert run_session(session, {"x": x})["y"][3, 3] == 1
    weight[...] = 5  # a copy would still hold ones
    assert run_session(session, {"x": x})["y"][3, 3] == 5


def test_the_session_keeps_the_weights_alive() -> None:
    session = open_session(with_weight(np.full((512, 512), 2, np.float32)))
    filler = [np.zeros((512, 512), np.float32) for _ in range(8)]  # would take the memory if it were freed
    assert run_session(session, {"x": filler[0]})["y"].min() == 2


def test_the_model_is_not_touched() -> None:
    model = with_weight(np.ones((64, 64), np.float32))
    before, tensor = str(model), model.graph.initializers["w"].const_value
    open_session(model)
    assert str(model) == before
    assert model.graph.initializers["w"].const_value is tensor


def test_a_transposed_view_is_a_weight_too() -> None:
    weight = np.arange(64 * 32, dtype=np.float32).reshape(64, 32).T
    y = run_session(open_session(with_weight(weight)), {"x": np.zeros((32, 64), np.float32)})["y"]
    np.testing.assert_array_equal(y, weight)


def test_large_constant_nodes_are_given_by_reference() -> None:
    value = np.random.default_rng(0).random((64, 64), np.float32)
    constant = ir.node("Constant", [], {"value": ir.Tensor(value, name="c")}, name="c")
    model = with_weight(np.zeros((64, 64), np.float32))
    constant.outputs[0].name = "c"
    model.graph.insert_before(model.graph[0], constant)
    model.graph[1].replace_input_with(1, constant.outputs[0])
    session = open_session(model, optimize=False)
    assert "c" in session.weights_in_use
    np.testing.assert_array_equal(run_session(session, {"x": np.zeros((64, 64), np.float32)})["y"], value)


def test_a_weight_that_nothing_reads() -> None:
    model = with_weight(np.ones((64, 64), np.float32))
    ir.convenience.replace_all_uses_with(model.graph.initializers["w"], model.graph.inputs[0])
    y = run_session(open_session(model), {"x": np.ones((64, 64), np.float32)})["y"]
    assert y[0, 0] == 2 and "w" in model.graph.initializers


def test_a_weight_that_a_function_does_not_read() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[64,64] x) => (float[64,64] y) { y = own.First(x, w) }
        <domain: "own", opset_import: ["" : 21]> First (a, b) => (c) { c = Neg(a) }"""
    )
    weight = model.graph[0].inputs[1]
    weight.name, weight.const_value = "w", ir.Tensor(np.ones((64, 64), np.float32), name="w")
    model.graph.register_initializer(weight)
    for optimize in (False, True):
        y = run_session(open_session(model, optimize=optimize), {"x": np.ones((64, 64), np.float32)})["y"]
        assert y[0, 0] == -1


def test_large_initializers_of_both_branches_of_an_if() -> None:
    text = """g (bool b) => (float[64,64] y) {
        y = If (b) <then_branch = t () => (float[64,64] p) { p = Identity(w) },
                    else_branch = e () => (float[64,64] q) { q = Neg(w) }>
    }"""
    model = parse(text)
    for number, attr in enumerate(model.graph[0].attributes.values()):
        graph = attr.as_graph()
        weight = ir.Value(
            name="w", const_value=ir.Tensor(np.full((64, 64), number + 1, np.float32), name="w")
        )
        graph[0].replace_input_with(0, weight)
        graph.register_initializer(weight)
    session = open_session(model, optimize=False)
    assert len(session.weights_in_use) == 2
    assert run_session(session, {"b": np.array(True)})["y"][0, 0] == 1
    assert run_session(session, {"b": np.array(False)})["y"][0, 0] == -2
    assert list(model.graph[0].attributes["then_branch"].as_graph().initializers) == ["w"]


def test_external_data_next_to_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    weight, bias = np.random.default_rng(0).random((64, 64), np.float32), np.float32([3])
    model = with_weight(weight)
    model.graph.append(ir.node("Add", [model.graph[0].outputs[0], ir.Value(name="b")]))
    small = model.graph[1].inputs[1]
    small.const_value = ir.Tensor(bias, name="b")
    model.graph.register_initializer(small)
    model.graph[1].outputs[0].name = "z"
    model.graph.outputs.append(model.graph[1].outputs[0])
    ir.save(model, tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    loaded = ir.load(tmp_path / "m.onnx")
    assert isinstance(loaded.graph.initializers["b"].const_value, ir.ExternalTensor)
    z = run_session(open_session(loaded), {"x": np.zeros((64, 64), np.float32)})["z"]
    np.testing.assert_allclose(z, weight + 3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "uint4"])
@pytest.mark.parametrize("count", [5, 4000])
def test_types_that_numpy_lacks(dtype: str, count: int) -> None:
    array = np.resize(np.array([0, 1, 2, 3, 1], getattr(ml_dtypes, dtype)), count)
    number = int(ir.DataType.from_numpy(array.dtype))
    kind = onnx.TensorProto.DataType.Name(number).lower()
    text = f"""g ({kind}[{count}] x, float[{count}] f)
        => (float[{count}] fed, {kind}[{count}] got, float[{count}] weight) <{kind}[{count}] w> {{
        fed = Cast<to=1>(x)  got = Cast<to={number}>(f)  weight = Cast<to=1>(w)
    }}"""
    model = parse(text)
    weight = model.graph[2].inputs[0]
    weight.const_value = ir.Tensor(array, name="w")
    model.graph.register_initializer(weight)
    wide = array.astype(np.float32)
    outputs = run_session(open_session(model, optimize=False), {"x": array, "f": wide})
    assert outputs["got"].dtype == array.dtype
    for result in outputs.values():
        np.testing.assert_array_equal(result.astype(np.float32), wide)


def test_strings_sequences_and_optionals() -> None:
    text = """g (string[2] s, seq(float[2]) q, optional(float[2]) o)
        => (string[2] t, seq(float[2]) r, bool h) {
        t = Identity(s)  r = Identity(q)  h = OptionalHasElement(o)
    }"""
    session = open_session(parse(text))
    feeds = {"s": np.array(["a", "b"], object), "q": [np.ones(2, np.float32)], "o": None}
    outputs = run_session(session, feeds)
    assert list(outputs["t"]) == ["a", "b"] and not outputs["h"]
    np.testing.assert_array_equal(outputs["r"][0], [1, 1])


def test_session_options() -> None:
    options = {"enable_mem_pattern": False, "session.intra_op.allow_spinning": "0"}
    session = open_session(with_weight(np.ones((2, 2), np.float32)), threads=1, options=options)
    used = session.get_session_options()
    assert used.intra_op_num_threads == 1 and not used.enable_mem_pattern
    assert used.get_session_config_entry("session.intra_op.allow_spinning") == "0"
