"""Weights in blocks of 4 or 8 bits: the plain nodes, the kernel, and that each method earns its place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from linears import ops, parse, relative, run

from optc import oracle
from optc.errors import UserError
from optc.passes.quantize.weight_only import adaptive, gptq, hqq, rtn

RNG = np.random.default_rng(0)
W = RNG.standard_normal((96, 40)).astype(np.float32)
BIAS = RNG.standard_normal(40).astype(np.float32)
X = RNG.standard_normal((1, 3, 96)).astype(np.float32)
BODIES = {
    "MatMul": "y = MatMul(x, w)",
    "MatMul and bias": "p = MatMul(x, w)  y = Add(p, b)",
    "Gemm": "y = Gemm <transB = 1> (x, w, b)",
}


def _model(body: str) -> ir.Model:
    turned = "Gemm" in body
    x, y = ("3,96", "3,40") if turned else ("1,3,96", "1,3,40")
    weights = {"w": np.ascontiguousarray(W.T) if turned else W}
    weights |= {"b": BIAS} if " b)" in body else {}
    return parse(f"(float[{x}] x) => (float[{y}] y) {{ {body} }}", **weights)


def _feeds(body: str) -> dict[str, np.ndarray]:
    return {"x": X[0] if "Gemm" in body else X}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_plain_nodes_are_the_rounded_weight_and_the_kernel_follows_them(body: str, bits: int) -> None:
    model, [record] = run(f"quantize{{scheme=int{bits}-weight}}", _model(body))
    assert record.report.matched == {f"weight in {bits} bits": 1}
    assert "DequantizeLinear" in ops(model)
    rounded = rtn.quantize(W, bits, 32).matrix(32)
    expected = X[0] @ rounded + (BIAS if " b)" in body else 0)
    actual = oracle.run(model, _feeds(body))["y"].reshape(3, 40)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert relative(rounded, W) < {4: 0.1, 8: 0.006}[bits]
    lowered, _ = run("fuse, legalize", model)
    assert ops(lowered) == ["MatMulNBits"]
    computed = oracle.run(lowered, _feeds(body), optimize=True)["y"].reshape(3, 40)
    assert relative(computed, expected) < 0.02, "the kernel rounds its input to int8"


def test_products_of_one_weight_share_its_codes_fused_or_not() -> None:
    body = "{ n = Neg(x)  p = MatMul(x, w)  q = MatMul(n, w)  y = Add(p, q) }"
    model = parse(f"(float[1,3,96] x) => (float[1,3,40] y) {body}", w=W)
    model, _ = run("quantize{scheme=int4-weight}", model)
    assert ops(model).count("DequantizeLinear") == 1
    lowered, _ = run("fuse, legalize", model)
    assert ops(lowered).count("MatMulNBits") == 2


def test_the_kernel_may_compute_in_int8_also_when_it_was_inlined_in_between() -> None:
    text = "quantize{scheme=int4-weight}, fuse, quantize{scheme=int8-dynamic}, legalize"
    model, _ = run(text, _model(BODIES["MatMul"]))
    [kernel] = model.graph
    assert kernel.attributes["accuracy_level"].as_int() == 4


def test_weights_take_the_room_they_should() -> None:
    model, _ = run("quantize{scheme=int4-weight}, fuse, legalize", _model(BODIES["MatMul"]))
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert size < 0.17 * W.nbytes


def test_a_last_block_may_be_short() -> None:
    w = W[:80]
    model = parse("(float[1,3,80] x) => (float[1,3,40] y) { y = MatMul(x, w) }", w=w)
    model, _ = run("quantize{scheme=int4-weight}, fuse, legalize", model)
    expected = X[..., :80] @ rtn.quantize(w, 4, 32).matrix(32)
    assert relative(oracle.run(model, {"x": X[..., :80].copy()}, optimize=True)["y"], expected) < 0.02


def test_hqq_beats_rounding_in_large_blocks() -> None:
    heavy = RNG.standard_t(3, (256, 64)).astype(np.float32)
    errors = [relative(m.quantize(heavy, 4, 128).matrix(128), heavy) for m in (hqq, rtn)]
    assert errors[0] < 0.97 * errors[1]


def test_gptq_beats_rounding_on_inputs_that_go_together() -> None:
    x = (RNG.standard_normal((500, 12)) @ RNG.standard_normal((12, 96))).astype(np.float32)
    moments = x.T.astype(np.float64) @ x
    found = gptq.quantize(W, 4, 32, moments, gptq.factor(moments)).matrix(32)
    rounded = rtn.quantize(W, 4, 32).matrix(32)
    assert relative(x @ found, x @ W) < 0.5 * relative(x @ rounded, x @ W)


@pytest.mark.parametrize("rank", [1, 40, 96])
def test_gptq_has_a_factor_for_inputs_of_any_rank(rank: int) -> None:
    x = RNG.standard_normal((200, rank)) @ RNG.standard_normal((rank, 96))
    moments = x.T @ x
    found = gptq.factor(moments)
    damped = moments + found.damping * np.mean(np.diag(moments)) * np.eye(96)
    np.testing.assert_allclose(found.upper.T @ found.upper @ damped, np.eye(96), atol=1e-6)
    assert found.damping == gptq.DAMPING[0]


def test_moments_that_cannot_be_factored_take_more_damping_or_rounding_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    indefinite = np.diag(np.linspace(-0.5, 2, 96))  # rounding errors of large sums can do this
    found = gptq.factor(indefinite)
    assert found.damping == 1.0
    broken = np.full((96, 96), np.nan)
    nothing = gptq.factor(broken)
    assert nothing.damping is None
    rounded = gptq.quantize(W, 4, 32, broken, nothing)
    np.testing.assert_array_equal(rounded.codes, rtn.quantize(W, 4, 32).codes)
    for damping, remark in ((1.0, "damping 1"), (None, "rounded to nearest")):
        fixed = gptq.Factor(np.eye(96), damping)
        monkeypatch.setattr(gptq, "factor", lambda _, fixed=fixed: fixed)
        text = "quantize{scheme=int4-weight, method=gptq}"
        _, [record] = run(text, _model(BODIES["MatMul"]), [{"x": X}])
        assert remark in record.report.detail["remarks"]["w"]


def test_gptq_through_the_pipeline_uses_the_calibration_data_and_says_when_there_is_none() -> None:
    mix = RNG.standard_normal((8, 96))
    samples = [{"x": (RNG.standard_normal((1, 3, 8)) @ mix).astype(np.float32)} for _ in range(40)]
    expected = oracle.run(_model(BODIES["MatMul"]), samples[0])["y"]
    errors = []
    for method in ("gptq", "rtn"):
        model, _ = run(f"quantize{{scheme=int4-weight, method={method}}}", _model(BODIES["MatMul"]), samples)
        errors.append(relative(oracle.run(model, samples[0])["y"], expected))
    assert errors[0] < 0.5 * errors[1]
    with pytest.raises(UserError, match="gptq needs calibration data"):
        run("quantize{scheme=int4-weight, method=gptq}", _model(BODIES["MatMul"]))


def test_awq_rounds_rows_of_large_inputs_more_finely_and_is_exact_in_float() -> None:
    gamma = np.where(np.arange(96) % 16 == 3, 20.0, 1.0).astype(np.float32)
    body = "(float[1,3,96] x) => (float[1,3,40] y) { g = Mul(x, gamma)  y = MatMul(g, w) }"
    samples = [{"x": RNG.standard_normal((1, 3, 96)).astype(np.float32)} for _ in range(20)]
    expected = oracle.run(parse(body, w=W, gamma=gamma), samples[0])["y"]
    errors = []
    for method in ("awq", "rtn"):
        model = parse(body, w=W, gamma=gamma)
        model, _ = run(f"quantize{{scheme=int4-weight, method={method}}}", model, samples)
        errors.append(relative(oracle.run(model, samples[0])["y"], expected))
    assert errors[0] < 0.7 * errors[1]


def test_a_second_run_and_an_old_operator_set_change_nothing() -> None:
    model, _ = run("quantize{scheme=int4-weight}", _model(BODIES["Gemm"]))
    _, [again] = run("quantize{scheme=int4-weight}", model)
    assert not again.report.changed
    old = parse("(float[1,3,96] x) => (float[1,3,40] y) { y = MatMul(x, w) }", opset=20, w=W)
    _, [record] = run("quantize{scheme=int4-weight}", old)
    assert "needs 21" in record.report.skipped[-1].reason


@pytest.mark.parametrize(("rows", "expected"), [(None, 128), (128, 128), (64, 64), (32, 32), (16, 16)])
def test_blocks_are_as_large_as_the_weights_are_alike(rows: int | None, expected: int) -> None:
    matrix = RNG.standard_normal((512, 200)).astype(np.float32)
    if rows is not None:  # every other stretch of so many rows is larger
        matrix[np.arange(512) % (2 * rows) >= rows] *= 20
    assert adaptive.group_size(matrix) == expected


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq", "awq"])
def test_granularity_group_chooses_the_blocks_of_each_matrix(method: str) -> None:
    v = RNG.standard_normal((128, 64)).astype(np.float32)
    w = v[:, ::-1].copy()
    w[np.arange(128) % 64 >= 32] *= 20
    body = "(float[1,3,128] x) => (float[1,3,64] y) { p = MatMul(x, v)  q = MatMul(x, w)  y = Add(p, q) }"
    samples = [{"x": RNG.standard_normal((1, 3, 128)).astype(np.float32)} for _ in range(8)]
    text = f"quantize{{scheme=int4-weight, granularity=group, method={method}}}"
    model, _ = run(text, parse(body, v=v, w=w), samples)
    sizes = {
        node.inputs[0].name[0]: node.attributes["block_size"].as_int()
        for node in model.graph
        if node.op_type == "DequantizeLinear"
    }
    assert sizes == {"v": 128, "w": 32}
    lowered, _ = run("fuse, legalize", model.clone())
    assert ops(lowered).count("MatMulNBits") == 2
    [expected], [actual] = (oracle.run(m, samples[0], optimize=True).values() for m in (model, lowered))
    assert relative(actual, expected) < 0.02
