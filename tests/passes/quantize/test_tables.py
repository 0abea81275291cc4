"""Tables of embeddings in int8: the same rows, rounded by a scale each; what is not only looked up stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from encoders import WORDS, encoder, samples
from linears import ops, parse, relative, run

from optc import oracle

RNG = np.random.default_rng(0)
TABLE = (RNG.standard_normal((1500, 48)) * np.geomspace(0.01, 10, 1500)[:, None]).astype(np.float32)
TABLE[7] = 0.0
IDS = np.array([[3, 1499, 7], [-1, 0, 700]], np.int64)
ALONE = "(int64[B,S] ids) => (float[B,S,48] y) { y = Gather(t, ids) }"


def rounded_rows(table: np.ndarray) -> np.ndarray:
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-30) / 127
    return np.rint(table / scale) * scale


@pytest.mark.parametrize("scheme", ["auto", "int8-dynamic", "int8-weight", "int4-weight"])
def test_a_lookup_gives_the_rounded_row(scheme: str) -> None:
    model, [record] = run(f"quantize{{scheme={scheme}}}", parse(ALONE, t=TABLE))
    assert record.report.matched == {"embedding table in int8": 1}
    [actual] = oracle.run(model, {"ids": IDS}).values()
    np.testing.assert_allclose(actual, rounded_rows(TABLE)[IDS], rtol=1e-5, atol=0)
    assert not actual[0, 2].any() and relative(actual, TABLE[IDS]) < 0.01
    assert sum(v.const_value.nbytes for v in model.graph.initializers.values()) < 0.28 * TABLE.nbytes


def test_lookups_of_one_table_share_it_and_a_second_run_changes_nothing() -> None:
    body = "(int64[N] i, int64[N] j) => (float[N,48] y) { a = Gather(t, i)  b = Gather(t, j)  y = Add(a, b) }"
    model, _ = run("quantize{scheme=int8-dynamic}", parse(body, t=TABLE))
    assert sorted(model.graph.initializers) == ["t_quantized", "t_scale"]
    feeds = {"i": IDS[0], "j": IDS[1]}
    expected = rounded_rows(TABLE)[IDS[0]] + rounded_rows(TABLE)[IDS[1]]
    np.testing.assert_allclose(oracle.run(model, feeds)["y"], expected, rtol=1e-4, atol=1e-6)
    before = ops(model)
    again, [record] = run("quantize{scheme=int8-dynamic}", model)
    assert not record.report.changed and ops(again) == before


@pytest.mark.parametrize(
    ("text", "body", "reason"),
    [
        ('exclude="^t$"', ALONE, "excluded by '^t$'"),
        (
            "scheme=int8-dynamic",
            "(int64[N] i, float[N,48] x) => (float[N,1500] y) "
            "{ a = Gather(t, i)  b = Add(a, x)  u = Transpose(t)  y = MatMul(b, u) }",
            "it is not only looked up",
        ),
        (
            "scheme=int8-dynamic",
            "(int64[N] i) => (float[N,48] y, float[1500,48] t) { y = Gather(t, i) }",
            "it is not only looked up",
        ),
        (
            "scheme=int8-dynamic",
            "(bool c, int64[N] i) => (float[N,48] y) { y = If(c) "
            "<then_branch = p () => (float[N,48] u) { u = Gather(t, i) }, "
            "else_branch = q () => (float[N,48] v) { w = Gather(t, i)  v = Neg(w) }> }",
            "it is looked up in a subgraph",
        ),
    ],
    ids=["excluded", "read by a product", "an output too", "in a subgraph"],
)
def test_what_stays_is_named_with_the_reason(text: str, body: str, reason: str) -> None:
    model, [record] = run(f"quantize{{{text}}}", parse(body, t=TABLE))
    assert [skip.reason for skip in record.report.skipped if skip.node == "t"] == [
        f"table left in float: {reason}"
    ]
    assert "t" in model.graph.initializers


@pytest.mark.parametrize(
    ("table", "axis"),
    [(TABLE[:1000], 0), (TABLE.reshape(-1, 8), 0), (TABLE, 1), (TABLE.astype(np.float64), 0)],
    ids=["small", "narrow", "columns", "double"],
)
def test_other_lookups_are_left_alone(table: np.ndarray, axis: int) -> None:
    kind = "double" if table.dtype == np.float64 else "float"
    body = f"(int64[N] ids) => ({kind}[a,b] y) {{ y = Gather <axis = {axis}> (t, ids) }}"
    model, [record] = run("quantize{scheme=int8-dynamic}", parse(body, t=table))
    assert not record.report.changed and ops(model) == ["Gather"]


def test_a_graph_output_keeps_its_name_and_old_operator_sets_work() -> None:
    body = ALONE
    model, [record] = run("quantize{scheme=int8-dynamic}", parse(body, opset=11, t=TABLE))
    assert record.report.matched == {"embedding table in int8": 1}
    assert [output.name for output in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(
        oracle.run(model, {"ids": IDS})["y"], rounded_rows(TABLE)[IDS], rtol=1e-5, atol=0
    )


def test_an_encoder_with_a_large_vocabulary_in_any_order() -> None:
    model = encoder("bert")
    [name] = [n for n, v in model.graph.initializers.items() if v.shape == ir.Shape([WORDS, 64])]
    words = model.graph.initializers[name]
    table = np.tile(words.const_value.numpy(), (3, 1))
    words.const_value, words.shape = ir.tensor(table, name=name), ir.Shape(table.shape)
    quantize = "quantize{scheme=int8-dynamic}"
    for pipeline in (f"simplify, {quantize}, fuse", f"simplify, fuse, {quantize}, share-attention, fuse"):
        done, records = run(f"{pipeline}, legalize", model.clone(), samples(model))
        [report] = [record.report for record in records if record.step.name == "quantize"]
        assert report.matched["embedding table in int8"] == 1
        plain, _ = run(f"{pipeline.replace(quantize, 'simplify')}, legalize", model.clone(), samples(model))
        assert oracle.Oracle(plain, samples(model)).compare(done).rel_l2 < 0.1
        sizes = [sum(v.const_value.nbytes for v in m.graph.initializers.values()) for m in (done, plain)]
        assert sizes[0] < 0.35 * sizes[1]
