"""Static int8 end to end: structure, what the runtime makes of it, and how near it stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from nets import CPU, conv, depthwise_net, floats, images, parse, quantized, residual_net, runtime_ops

from optc import oracle
from optc.passbase import Context, Feeds
from optc.passes.quantize.static import Settings, Site, quantize_static
from optc.passes.quantize.static.graph import Graph
from optc.session import open_session, run_session


def test_a_residual_network_stays_in_int8(tmp_path: Path) -> None:
    outcome = quantized(residual_net(), images(6, 3, 12, 12))
    assert outcome.report.matched["int8 site"] == 4
    assert outcome.report.matched["limit taken into a grid"] == 3
    assert "Relu" not in outcome.ops()
    assert outcome.error.rel_l2 < 0.05
    ops = Counter(runtime_ops(outcome.model, tmp_path))
    assert (ops["QLinearConv"], ops["QLinearAdd"], ops["QGemm"]) == (3, 1, 1)
    assert ops["QLinearGlobalAveragePool"] == 1
    assert ops["QuantizeLinear"] == 1 and ops["Conv"] == ops["Relu"] == 0  # into int8 once, and out in QGemm


def test_an_inverted_residual_stays_in_int8(tmp_path: Path) -> None:
    outcome = quantized(depthwise_net(), images(6, 4, 8, 8))
    ops = Counter(runtime_ops(outcome.model, tmp_path))
    assert ops["QLinearConv"] == 3 and ops["Conv"] == ops["Clip"] == 0
    assert ops["Add"] == 1  # no site reads the sum: it stays in float
    assert outcome.error.rel_l2 < 0.05


def test_the_runtime_agrees_with_the_plain_graph() -> None:
    """The graph without optimization is the reference of the int8 kernels."""
    outcome = quantized(residual_net(), images(6, 3, 12, 12))
    scales = [
        float(value.const_value.numpy())
        for name, value in outcome.model.graph.initializers.items()
        if name == "f_scale" and value.const_value is not None
    ]
    session = open_session(outcome.model)
    for feeds in images(5, 3, 12, 12, seed=90):
        expected = oracle.run(outcome.model, feeds)["y"]
        found = run_session(session, feeds)["y"]
        reach = np.abs(floats(5, 8)).sum(axis=1).max() * scales[0]  # one step of every input of the Gemm
        assert np.abs(expected - found).max() <= reach


def test_means_over_space_become_pooling() -> None:
    text = """(float[N,3,8,8] x) => (float[N,4] y) <int64[2] axes = {-1, 2}> {
        c = Conv(x, w)  m = ReduceMean<keepdims=%d>(c, axes)  f = Reshape(m, s)  y = Gemm(f, w2) }"""
    for keeps in (0, 1):
        model = parse(text % keeps, w=conv(8, 3, 1), w2=floats(8, 4), s=np.array([0, 8], np.int64))
        outcome = quantized(model, images(4, 3, 8, 8))
        assert outcome.report.matched["mean over space as pooling"] == 1
        assert "ReduceMean" not in outcome.ops() and "GlobalAveragePool" in outcome.ops()
        assert outcome.error.rel_l2 < 0.05


def test_concat_pool_and_reshape_stay_in_int8(tmp_path: Path) -> None:
    body = """(float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv(x, w1)  ra = Relu(a)  b = Conv(x, w2)  c = Concat<axis=1>(ra, b)
        p = AveragePool<kernel_shape=[2,2],strides=[2,2]>(c)  t = Transpose<perm=[0,2,3,1]>(p)
        f = Flatten(t)  y = Gemm(f, w3) }"""
    model = parse(body, w1=conv(4, 3, 1), w2=conv(2, 3, 1), w3=floats(96, 4, scale=0.1))
    outcome = quantized(model, images(4, 3, 8, 8))
    ops = Counter(runtime_ops(outcome.model, tmp_path))
    assert ops["QLinearConcat"] == ops["QLinearAveragePool"] == ops["QGemm"] == 1
    assert ops["DequantizeLinear"] == 0
    assert outcome.error.rel_l2 < 0.05


def test_residual_adds_of_transformers_stay_in_float() -> None:
    body = """(float[N,6,16] x) => (float[N,6,16] y) {
        n = LayerNormalization(x, g)  h = MatMul(n, w1)  b = Add(h, b1)  e = Gelu(b)
        o = MatMul(e, w2)  s = Add(o, x)  y = LayerNormalization(s, g) }"""
    given = {"w1": floats(16, 32, scale=0.2), "w2": floats(32, 16, scale=0.2, seed=1), "b1": floats(32)}
    outcome = quantized(parse(body, **given, g=np.ones(16, np.float32)), images(4, 6, 16))
    assert Counter(outcome.ops())["QuantizeLinear"] == 2  # the inputs of the two products
    assert outcome.error.rel_l2 < 0.03


def test_dead_channels_and_large_biases() -> None:
    """Where all weights are zero the bias alone sets the scale: it must not overflow int32."""
    w = conv(4, 3)
    w[1] = 0.0
    w[2] *= 1e-12
    model = parse("(float[N,3,6,6] x) => (float[N,4,4,4] y) { y = Conv(x, w, b) }", w=w, b=100 * floats(4))
    outcome = quantized(model, images(3, 3, 6, 6))
    assert outcome.error.rel_l2 < 0.01


def test_what_saturates_gives_the_end_of_the_grid() -> None:
    """Values beyond what calibration saw are clipped, in the reference and in the runtime alike."""
    outcome = quantized(residual_net(), images(2, 3, 12, 12))
    feeds = {"x": 50 * floats(2, 3, 12, 12, seed=3)}
    expected = oracle.run(outcome.model, feeds)["y"]
    found = run_session(open_session(outcome.model), feeds)["y"]
    assert np.isfinite(found).all() and np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


def test_a_second_run_changes_nothing() -> None:
    once = quantized(residual_net(), images(3, 3, 12, 12))
    again = quantized(once.model, images(3, 3, 12, 12))
    assert not again.report.changed and again.ops() == once.ops()
    assert {skip.reason for skip in again.report.skipped} == {
        "left in float: its weight is quantized already"
    }


def test_a_site_behind_existing_pairs_uses_them() -> None:
    body = """(float[N,3,6,6] x) => (float[N,4,6,6] y)
        <float sx = {0.03}, uint8 zx = {128}> {
        q = QuantizeLinear(x, sx, zx)  d = DequantizeLinear(q, sx, zx)  y = Conv(d, w, b) }"""
    outcome = quantized(parse(body, w=conv(4, 3, 1), b=floats(4)), images(3, 3, 6, 6))
    assert Counter(outcome.ops())["QuantizeLinear"] == 2  # the one that was there, and that of the output
    assert outcome.error.rel_l2 < 0.05


def test_sites_are_left_with_a_reason() -> None:
    def leave(site: Site) -> str | None:
        return "excluded" if site.name == "y" or site.output.name == "y" else None

    outcome = quantized(residual_net(), images(3, 3, 12, 12), Settings(leave=leave))
    assert outcome.report.matched["int8 site"] == 3
    assert [skip.reason for skip in outcome.report.skipped] == ["left in float: excluded"]


def test_infinity_between_sites_leaves_all_of_them_in_float() -> None:
    """No site reads or makes it: it is a product of two of them, and bounded before the next."""
    body = """(float[1,4,6,6] x) => (float[1,4,6,6] y) {
        c = Conv(x, u)  d = Conv(x, v)  p = Mul(c, d)  s = Sigmoid(p)  y = Conv(s, w) }"""
    weights = {name: conv(4, 4, 1, seed) for seed, name in enumerate("uvw")}
    samples: list[Feeds] = [{"x": floats(1, 4, 6, 6, scale=1e25)}]
    report = quantize_static(parse(body, **weights), samples, Context(CPU), Settings(equalize=False))
    assert not report.changed
    assert {skip.node for skip in report.skipped} == {"c_node", "d_node", "y_node"}
    assert all("infinity" in skip.reason for skip in report.skipped)


def test_infinite_activations_are_left_in_float() -> None:
    body = """(float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z) <float zero = {0.0}> {
        i = Div(x, zero)  y = Conv(i, w)  z = Conv(x, v) }"""
    model = parse(body, w=conv(4, 3, 1), v=conv(4, 3, 1, seed=1))
    outcome = quantized(model, images(2, 3, 6, 6))
    assert outcome.report.matched["int8 site"] == 1
    assert any("infinity" in skip.reason for skip in outcome.report.skipped)


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_operator_sets(opset: int) -> None:
    body = "(float[N,3,6,6] x) => (float[N,4,6,6] y) { c = Conv(x, w, b)  y = Relu(c) }"
    outcome = quantized(parse(body, opset, w=conv(4, 3, 1), b=floats(4)), images(3, 3, 6, 6))
    assert outcome.report.matched["int8 site"] == 1 and outcome.error.rel_l2 < 0.02


def test_an_old_operator_set_is_left_alone_with_the_reason() -> None:
    body = "(float[N,3,6,6] x) => (float[N,4,6,6] y) { y = Conv(x, w, b) }"
    outcome = quantized(parse(body, 11, w=conv(4, 3, 1), b=floats(4)), images(1, 3, 6, 6))
    assert not outcome.report.changed and "operator set" in outcome.report.skipped[0].reason


def test_outputs_and_other_readers_keep_their_names_and_values() -> None:
    body = """(float[N,3,6,6] x) => (float[N,4,6,6] c, float[N,4,6,6] r, float[N,4,6,6] e) {
        c = Conv(x, w, b)  r = Relu(c)  e = Tanh(c) }"""
    outcome = quantized(parse(body, w=conv(4, 3, 1), b=floats(4)), images(12, 3, 6, 6))
    assert [value.name for value in outcome.model.graph.outputs] == ["c", "r", "e"]
    assert outcome.error.rel_l2 < 0.02


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, 1.0), (0.5, 2.0)])
def test_clips_that_a_grid_cannot_hold_stay(bounds: tuple[float, float]) -> None:
    body = """(float[N,3,12,12] x) => (float[N,2,12,12] y) {
        c = Conv(x, w)  r = Clip(c, low, high)  y = Conv(r, v) }"""
    low, high = (np.array(bound, np.float32) for bound in bounds)
    model = parse(body, w=5 * conv(4, 3, 1), v=conv(2, 4, 1, seed=1), low=low, high=high)
    outcome = quantized(model, images(12, 3, 12, 12))
    assert ("Clip" in outcome.ops()) == (bounds == (0.5, 2.0))
    assert outcome.error.rel_l2 < 0.02


def test_weights_of_subgraphs_are_left_alone() -> None:
    body = """(float[N,3,6,6] x, bool p) => (float[N,4,6,6] y) {
        y = If (p) <then_branch = t () => (float[N,4,6,6] a) { a = Conv(x, w) },
                    else_branch = e () => (float[N,4,6,6] b) { b = Conv(x, w) }> }"""
    model = parse(body, w=conv(4, 3, 1))
    feeds = [{**feeds, "p": np.array(True)} for feeds in images(1, 3, 6, 6)]
    outcome = quantized(model, feeds)
    assert not outcome.report.changed
    assert {skip.reason for skip in outcome.report.skipped} == {
        "left in float: it is in a subgraph, where calibration does not see it"
    }


def test_shared_weights_are_quantized_for_each_reader() -> None:
    body = "(float[N,3,6,6] x) => (float[N,3,6,6] y) { a = Conv(x, w, b)  y = Conv(a, w, b) }"
    outcome = quantized(parse(body, w=conv(3, 3, 1), b=floats(3)), images(3, 3, 6, 6))
    assert outcome.report.matched["int8 site"] == 2 and outcome.error.rel_l2 < 0.03
    assert not any(
        isinstance(v, ir.Value) and v.name == "w" for v in outcome.model.graph.initializers.values()
    )


def test_a_constant_that_is_an_output_is_not_dropped() -> None:
    model = parse("(float[2] x) => (float[2] y, float[1] c) { y = Relu(x) }", c=np.ones(1, np.float32))
    constant = model.graph.initializers["c"]
    model.graph.outputs[1] = constant
    Graph(model).constant(np.ones(1, np.float32), "unread")
    Graph(model).drop_unused()
    assert list(model.graph.initializers) == ["c"]
