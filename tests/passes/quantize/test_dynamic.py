"""Dynamic int8 against the arithmetic it stands for, written in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from linears import ops, parse, relative, rounded, rounded_weight, run

from optc import oracle
from optc.errors import UserError
from optc.passes.quantize.static import saturation

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5, 8)).astype(np.float32)
W = (RNG.standard_normal((8, 6)) * np.geomspace(0.01, 10, 6)).astype(np.float32)
V = W[:, ::-1].copy()
BIAS = RNG.standard_normal(6).astype(np.float32)
SIGNATURE = "(float[3,5,8] x) => (float[3,5,6] y)"
PLAIN = "quantize{scheme=int8-dynamic, smooth=none, bias-correct=false}"


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("add", ["Add(p, b)", "Add(b, p)"])
def test_a_product_is_that_of_the_rounded_operands(per_channel: bool, add: str) -> None:
    option = "channel" if per_channel else "tensor"
    text = PLAIN.replace("smooth", f"granularity={option}, smooth")
    model, [record] = run(text, parse(f"{SIGNATURE} {{ p = MatMul(x, w)  y = {add} }}", w=W, b=BIAS))
    assert record.report.matched == {"int8 dynamic site": 1}
    assert ops(model) == ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"]
    expected = rounded(X) @ rounded_weight(W, per_channel=per_channel) + BIAS
    np.testing.assert_allclose(oracle.run(model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-4)
    assert 0 < relative(expected, X @ W + BIAS) < 0.02


def test_a_gemm_keeps_its_turned_weight_and_bias() -> None:
    body = "(float[4,8] x) => (float[4,6] y) { y = Gemm <transB = 1> (x, w, b) }"
    model, _ = run(PLAIN, parse(body, w=np.ascontiguousarray(W.T), b=BIAS))
    assert "Gemm" not in ops(model)
    x = X[0, :4]
    expected = rounded(x) @ rounded_weight(W) + BIAS
    np.testing.assert_allclose(oracle.run(model, {"x": x})["y"], expected, rtol=1e-5, atol=1e-4)


def test_readers_of_one_input_share_its_codes_and_readers_of_one_weight_its_codes() -> None:
    body = (
        "{ p = MatMul(x, w)  n = Neg(x)  q = MatMul(n, w)  r = MatMul(x, v)  s = Add(p, q)  y = Add(s, r) }"
    )
    model, _ = run(PLAIN, parse(f"{SIGNATURE} {body}", w=W, v=V))
    assert (ops(model).count("MatMulInteger"), ops(model).count("DynamicQuantizeLinear")) == (3, 2)
    kinds = ("quantized", "scale", "zero")
    assert sorted(model.graph.initializers) == [f"{weight}_{kind}" for weight in "vw" for kind in kinds]


def test_what_stays_in_float_is_named_with_the_reason() -> None:
    body = f"{SIGNATURE} {{ p = MatMul(x, w)  q = MatMul(x, v)  y = Add(p, q) }}"
    text = PLAIN.replace("smooth", 'exclude="^v$", smooth')
    model, [record] = run(text, parse(body, w=W, v=V))
    assert [(skip.node, skip.reason) for skip in record.report.skipped] == [
        ("q_node", "left in float: excluded by '^v$'")
    ]
    assert ops(model).count("MatMul") == 1


def test_a_site_can_be_excluded_by_the_name_of_its_bias() -> None:
    """What an exporter folds (a transposed weight) gets a name that says nothing; the bias keeps its own."""
    body = f"{SIGNATURE} {{ p = MatMul(x, w)  s = Add(p, b)  q = MatMul(x, v)  y = Add(s, q) }}"
    made = parse(body, w=W, v=V, b=BIAS)
    made.graph.initializers["b"].name = "head.bias"
    model, _ = run(PLAIN.replace("smooth", 'exclude="^head", smooth'), made)
    assert [node.name for node in model.graph if node.op_type == "MatMul"] == ["p_node"]
    assert ops(model).count("MatMulInteger") == 1


@pytest.mark.parametrize(("exclude", "told"), [("^v$", False), ("^vv$", True)])
def test_an_expression_that_no_name_has_is_told(exclude: str, told: bool) -> None:
    body = f"{SIGNATURE} {{ p = MatMul(x, w)  q = MatMul(x, v)  y = Add(p, q) }}"
    _, [record] = run(PLAIN.replace("smooth", f'exclude="{exclude}", smooth'), parse(body, w=W, v=V))
    assert told == any("no site or table has a name" in skip.reason for skip in record.report.skipped)


def test_groups_of_rows_are_for_weights_alone() -> None:
    """In dynamic int8 each output channel has its scale then too, not all of a weight one."""
    found = {}
    for granularity in ("channel", "group", "tensor"):
        text = PLAIN.replace("smooth", f"granularity={granularity}, smooth")
        model, _ = run(text, parse(f"{SIGNATURE} {{ y = MatMul(x, w) }}", w=W))
        found[granularity] = oracle.run(model, {"x": X})["y"]
    np.testing.assert_array_equal(found["group"], found["channel"])
    assert not np.array_equal(found["group"], found["tensor"])


def test_an_old_operator_set_is_left_alone_with_the_reason() -> None:
    model, [record] = run(PLAIN, parse(f"{SIGNATURE} {{ y = MatMul(x, w) }}", opset=9, w=W))
    assert "needs 11" in record.report.skipped[-1].reason
    assert ops(model) == ["MatMul"]


def test_a_second_run_changes_nothing() -> None:
    model, _ = run(PLAIN, parse(f"{SIGNATURE} {{ y = MatMul(x, w) }}", w=W))
    _, [record] = run(PLAIN, model)
    assert not record.report.changed


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(UserError, match="not a regular expression"):
        run('quantize{exclude="("}', parse(f"{SIGNATURE} {{ y = MatMul(x, w) }}", w=W))


@pytest.mark.parametrize(
    "order", ["QUANTIZE, fuse", "fuse, QUANTIZE", "QUANTIZE, simplify, fuse", "QUANTIZE"]
)
def test_the_kernels_give_what_the_plain_nodes_give_in_any_order(order: str) -> None:
    body = f"{SIGNATURE} {{ p = MatMul(x, w)  q = Add(p, b)  r = MatMul(x, v)  y = Add(q, r) }}"
    text = order.replace("QUANTIZE", PLAIN) + ", legalize"
    model, _ = run(text, parse(body, w=W, v=V, b=BIAS))
    expected = rounded(X) @ rounded_weight(W) + BIAS + rounded(X) @ rounded_weight(V)
    np.testing.assert_allclose(oracle.run(model, {"x": X})["y"], expected, rtol=1e-4, atol=1e-3)
    kernels = ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat", "Add"]
    assert ("fuse" not in order) or ops(model) == kernels


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static"])
@pytest.mark.parametrize(("saturates", "largest", "said"), [(True, 63, "7 bits"), (False, 127, "8 bits")])
def test_weights_have_seven_bits_where_sums_of_products_saturate(
    scheme: str, saturates: bool, largest: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "int8_saturates", lambda: saturates)
    body = f"{SIGNATURE} {{ p = MatMul(x, w)  y = Add(p, b) }}"
    text = f"quantize{{scheme={scheme}, smooth=none, bias-correct=false}}"
    model, [record] = run(text, parse(body, w=W, b=BIAS), [{"x": X}])
    [codes] = [v.const_value.numpy() for v in model.graph.initializers.values() if v.shape == (8, 6)]
    assert codes.max() == largest
    assert codes.min() == (-largest - 1 if scheme == "int8-dynamic" else -largest)
    assert said in record.report.detail["machine"]
