"""Half precision on a target that computes in it: islands, one Cast per value, the interface as it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optc import oracle, registry, verify
from optc.passbase import Context, Report
from optc.passes.cast import TYPES, Cast

CPU = registry.find_target("cpu")
HALF = replace(CPU, precisions=frozenset(TYPES.values()))
RNG = np.random.default_rng(0)

BLOCK = """(float[N,6,16] x, float[N,1,1,6] mask) => (float[N,6,16] y)
    <float eps = {1e-9}, float two = {2.0}, float low = {-3.4e38}, float zero = {0.0}, int64[1] last = {-1}> {
    mean = ReduceMean(x, last)  d = Sub(x, mean)  p = Pow(d, two)  var = ReduceMean(p, last)
    e = Add(var, eps)  s = Sqrt(e)  n = Div(d, s)  scaled = Mul(n, gamma)
    q = MatMul(scaled, wq)  k = MatMul(scaled, wk)  t = Transpose<perm=[0,2,1]>(k)  scores = MatMul(q, t)
    keep = Greater(mask, zero)  bias = Where(keep, zero, low)  flat = Squeeze(bias, last2)
    masked = Add(scores, flat)  prob = Softmax(masked)  mix = MatMul(prob, scaled)  y = Add(mix, x) }"""


def model(body: str, **arrays: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\ng {body}')
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
        for inner in (inner for attribute in node.attribute for inner in attribute.g.node):
            inner.name = inner.output[0]
    return ir.from_proto(proto)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def block() -> ir.Model:
    weights = {"gamma": 1 + 0.1 * floats(16), "wq": floats(16, 16) / 4, "wk": floats(16, 16) / 4}
    return model(BLOCK, **weights, last2=np.array([1], np.int64))


def feeds() -> dict[str, np.ndarray]:
    mask = np.ones((2, 1, 1, 6), np.float32)
    mask[1, ..., 4:] = 0
    return {"x": floats(2, 6, 16), "mask": mask}


def narrowed(made: ir.Model, given: dict[str, np.ndarray], **options: str) -> tuple[ir.Model, Report]:
    copy = made.clone()
    report = Cast(**options).run(copy, Context(target=HALF, examples=[given]))  # type: ignore[arg-type]
    verify.verify(copy, interface=verify.interface_of(made), after="cast")
    return copy, report


def types(made: ir.Model) -> dict[str, ir.DataType | None]:
    return {str(node.name): node.inputs[0].dtype for node in made.graph if node.inputs and node.inputs[0]}


@pytest.mark.parametrize(("to", "error"), [("fp16", 2e-3)])
def test_a_block_computes_in_half_precision_around_its_islands(to: str, error: float) -> None:
    made, given = block(), feeds()
    copy, report = narrowed(made, given, to=to)
    found = types(copy)
    islands = ("mean", "d", "p", "var", "e", "s", "n", "bias", "flat", "masked", "prob")
    assert {found[name] for name in islands if name != "bias"} == {ir.DataType.FLOAT}  # bias reads a bool
    for name in ("scaled", "q", "k", "t", "scores", "mix", "y"):
        assert found[name] == TYPES[to], name
    assert {skip.node for skip in report.skipped} == set(islands)
    difference = oracle.Oracle(made, [given]).compare(copy)
    assert 0.0 < difference.rel_l2 < error


def test_bfloat16_has_the_same_islands_but_for_range() -> None:
    made = block()
    copy, report = narrowed(made, feeds(), to="bf16")
    assert types(copy)["flat"] == ir.DataType.BFLOAT16  # it holds the smallest float32
    assert types(copy)["prob"] == ir.DataType.FLOAT
    assert "n" in {skip.node for skip in report.skipped}


def test_every_value_is_cast_once_in_a_direction() -> None:
    copy, _ = narrowed(block(), feeds())
    casts = Counter(
        (node.inputs[0], node.attributes["to"].as_int()) for node in copy.graph if node.op_type == "Cast"
    )
    assert casts and set(casts.values()) == {1}
    assert not any(
        node.op_type == "Cast" and node.inputs[0] and node.inputs[0].producer() is not None
        and node.inputs[0].producer().op_type == "Cast" for node in copy.graph
    )  # fmt: skip


def test_weights_become_half_precision_constants() -> None:
    copy, _ = narrowed(block(), feeds())
    dtypes = {name: value.dtype for name, value in copy.graph.initializers.items()}
    assert dtypes["wq.float16"] == ir.DataType.FLOAT16 and "wq" not in dtypes
    assert "eps" in dtypes  # an island reads it


def test_what_overflows_on_the_data_stays_in_float() -> None:
    body = "(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  b = Mul(a, c)  y = MatMul(b, w) }"
    made = model(body, w=floats(8, 8), c=np.full(8, 1e-4, np.float32))
    given = {"x": 3e4 * floats(2, 8)}
    copy, report = narrowed(made, given)
    assert {skip.node for skip in report.skipped} == {"a", "b"} and "reaches" in report.skipped[0].reason
    assert oracle.Oracle(made, [given]).compare(copy).rel_l2 < 2e-3
    calm, quiet = narrowed(made, {"x": floats(2, 8)})
    assert not quiet.skipped and types(calm)["a"] == ir.DataType.FLOAT16


@pytest.mark.parametrize("least", ["Max(n, tiny)", "Clip(n, tiny)", "Add(n, tiny)"])
def test_what_keeps_a_divisor_from_zero_stays_in_float(least: str) -> None:
    """Normalized rows, some of them padding: with a least norm of 1e-12, which half precision rounds to 0."""
    body = f"""(float[N,8] x) => (float[N,8] y)
        <int64[1] last = {{-1}}, int64[2] one = {{1,8}}, float tiny = {{1e-12}}>
        {{ a = MatMul(x, w)  n = ReduceL2(a, last)  c = {least}  e = Expand(c, one)  y = Div(a, e) }}"""
    made, given = model(body, w=floats(8, 8)), {"x": floats(3, 8)}
    given["x"][1] = 0
    copy, report = narrowed(made, given)
    assert oracle.Oracle(made, [given]).compare(copy).rel_l2 < 2e-3
    assert {skip.node for skip in report.skipped} == {"n", "c", "e", "y"}
    assert types(copy)["a"] == ir.DataType.FLOAT16


def test_an_end_that_nothing_reaches_keeps_only_its_own_node_in_float() -> None:
    """Exporters write a missing bound as the largest float32; what reads the result can hold it."""
    body = """(float[N,8] x) => (float[N,8] y) <float zero = {0.0}, float most = {3.4e38}>
        { a = MatMul(x, w)  c = Clip(a, zero, most)  b = MatMul(c, w)  y = Neg(b) }"""
    made, given = model(body, w=floats(8, 8)), {"x": floats(3, 8)}
    copy, report = narrowed(made, given)
    assert {skip.node for skip in report.skipped} == {"c"}
    assert types(copy)["b"] == ir.DataType.FLOAT16


@pytest.mark.parametrize("factor", [1e-6, 1e-9])
def test_what_is_too_small_for_normal_numbers_stays_in_float(factor: float) -> None:
    body = "(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  b = Mul(a, c)  y = Neg(b) }"
    made, given = model(body, w=floats(8, 8), c=np.array(factor, np.float32)), {"x": floats(2, 8)}
    copy, report = narrowed(made, given)
    assert {skip.node for skip in report.skipped} == {"b", "y"}
    assert oracle.Oracle(made, [given]).compare(copy).rel_l2 < 2e-3


def test_rows_of_a_bias_that_add_next_to_nothing_do_not_matter() -> None:
    body = "(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  y = Add(a, bias) }"
    made = model(body, w=floats(8, 8), bias=1e-7 * floats(8))
    assert not narrowed(made, {"x": floats(2, 8)})[1].skipped


def test_nodes_and_weights_are_kept_by_name() -> None:
    made = block()
    copy, report = narrowed(made, feeds(), keep="^wq$|scores")
    found = types(copy)
    assert found["q"] == found["scores"] == ir.DataType.FLOAT and found["k"] == ir.DataType.FLOAT16
    assert any("kept by" in skip.reason for skip in report.skipped)


def test_a_product_is_kept_by_the_name_of_the_bias_behind_it() -> None:
    """What an exporter folds (a transposed weight) gets a name that says nothing; the bias keeps its own."""
    body = "(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  b = Add(a, bias)  y = MatMul(b, v) }"
    made = model(body, w=floats(8, 8), v=floats(8, 8), bias=floats(8))
    made.graph.initializers["bias"].name = "head.bias"
    found = types(narrowed(made, {"x": floats(2, 8)}, keep="^head")[0])
    assert found["a"] == ir.DataType.FLOAT and found["y"] == ir.DataType.FLOAT16


def test_a_second_run_changes_nothing() -> None:
    given = feeds()
    once, _ = narrowed(block(), given)
    again, report = narrowed(once, given)
    assert not report.changed
    assert [node.op_type for node in again.graph] == [node.op_type for node in once.graph]


def test_branches_get_float_values() -> None:
    body = """(float[N,8] x, bool p) => (float[N,8] y) { a = MatMul(x, w)
        c = If (p) <then_branch = t () => (float[N,8] u) { u = Relu(a) },
                    else_branch = e () => (float[N,8] v) { v = Neg(a) }>
        y = MatMul(c, w) }"""
    made, given = model(body, w=floats(8, 8)), {"x": floats(2, 8), "p": np.array(True)}
    copy, _ = narrowed(made, given)
    assert oracle.Oracle(made, [given]).compare(copy).rel_l2 < 2e-3


def test_statistics_of_a_layer_norm_are_those_of_float() -> None:
    body = """(float[N,8] x) => (float[N,8] y, float[N,1] m) {
        a = MatMul(x, w)  n, m = LayerNormalization(a, g)  y = MatMul(n, w) }"""
    made = model(body, w=floats(8, 8), g=np.ones(8, np.float32))
    copy, _ = narrowed(made, {"x": floats(2, 8)})
    norm = next(node for node in copy.graph if node.op_type == "LayerNormalization")
    assert norm.outputs[0].dtype == ir.DataType.FLOAT16 and norm.outputs[1].dtype == ir.DataType.FLOAT


def test_quantized_parts_are_left_alone() -> None:
    body = """(float[N,8] x) => (float[N,8] y) <float s = {0.05}, uint8 z = {128}> {
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  a = MatMul(d, w)
        r = Relu(a)  y = MatMul(r, w) }"""
    copy, report = narrowed(model(body, w=floats(8, 8)), {"x": floats(2, 8)})
    assert {skip.node for skip in report.skipped} == {"a", "d"} and types(copy)["y"] == ir.DataType.FLOAT16


def test_a_model_without_float32_is_not_touched() -> None:
    made = model("(double[N] x) => (double[N] y) { y = Exp(x) }")
    report = narrowed(made, {"x": np.ones(2)})[1]
    assert not report.changed and not report.matched


def test_only_what_works_element_by_element_on_a_statistic_stays_with_it() -> None:
    body = """(float[N,6,8] x) => (float[N,1,8] y) <int64[1] axis = {1}> {
        m = ReduceMean(x, axis)  r = Sqrt(m)  y = MatMul(r, w) }"""
    _, report = narrowed(model(body, w=floats(8, 8)), {"x": floats(2, 6, 8)})
    assert "y" not in {skip.node for skip in report.skipped}
