"""ai.onnx.Attention computes what the bodies of the functions do, for all masks, lengths and head groups."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fused_calls import assert_lowers, assert_same, call_model, legalized, ops, run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lower_attention import LOWEST, MASKS, D, N, attention, feeds, make_mask

from optc.analysis.bounds import bounds, masked_or_above
from optc.capture.opset import newest_opset
from optc.codegen.ort.kernels import has_kernel
from optc.passes.fuse import _bodies

NEWEST = newest_opset() or 0
pytestmark = pytest.mark.skipif(
    not has_kernel("", "Attention", NEWEST, {"T1": ir.DataType.FLOAT}),
    reason="the installed ONNX Runtime has no CPU kernel of Attention",
)


def lowered_to_it(model: ir.Model, inputs: dict[str, np.ndarray]) -> ir.Model:
    lowered = assert_lowers(model, inputs)
    assert "Attention" in ops(lowered) and "MultiHeadAttention" not in ops(lowered)
    return lowered


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("kind", ["bool", "inf", "lowest"])
@pytest.mark.parametrize("dims", MASKS, ids=str)
def test_masks_of_every_form(dims: tuple[int, ...], kind: str, rank4: bool) -> None:
    mask = make_mask(dims or (1,), kind).reshape(dims)
    lowered_to_it(attention(mask, safe=1, rank4=rank4, opset=NEWEST), feeds(3, 4, 5, rank4=rank4, mask=mask))


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("kind", [None, "bool", "inf"])
def test_queries_that_all_of_the_batch_has_in_common(kind: str | None, rank4: bool) -> None:
    mask = None if kind is None else make_mask((3, 1, 1, 5), kind)
    given_feeds = feeds(3, 4, 5, rank4=rank4, mask=mask)
    model = attention(mask, safe=1, rank4=rank4, queries=1, opset=NEWEST)
    lowered_to_it(model, {**given_feeds, "q": given_feeds["q"][:1]})


@settings(max_examples=60, deadline=None, database=None)
@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 8), st.integers(1, 8)),
    kind=st.sampled_from([None, "bool", "inf", "lowest"]),
    causal=st.integers(0, 1),
    safe=st.integers(0, 1),
    rank4=st.booleans(),
    wide=st.booleans(),
    scale=st.sampled_from([-0.4, 0.0, 0.3, 1.0]),
)
def test_any_call_is_right_whichever_kernel_takes_it(
    sizes: tuple[int, ...],
    kind: str | None,
    causal: int,
    safe: int,
    rank4: bool,
    wide: bool,
    scale: float,
) -> None:
    """Fully masked rows, and lengths that differ, are among them; where no kernel fits, it is inlined."""
    b, nk, group, s, t = sizes
    mask = None if kind is None else make_mask((b, 1, s, t), kind)
    shape = {"n": nk * group, "nk": nk, "dv": 12 if wide else 8, "rank4": rank4}
    model = attention(mask, causal=causal, safe=safe, scale=scale, opset=NEWEST, **shape)
    given_feeds = feeds(b, s, t, mask=mask, **shape)
    lowered, _ = legalized(model)
    assert_same(run(model, given_feeds), run(lowered, given_feeds))


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("b,s,t", [(3, 1, 9), (1, 7, 1), (1, 1, 1)])
def test_lengths_of_one(b: int, s: int, t: int, rank4: bool) -> None:
    lowered_to_it(attention(rank4=rank4, opset=NEWEST), feeds(b, s, t, rank4=rank4))


@pytest.mark.parametrize("n,nk,dv", [(4, 2, 8), (4, 1, 8), (6, 3, 4), (4, 4, 16)])
def test_groups_share_heads_without_a_copy(n: int, nk: int, dv: int) -> None:
    model = attention(n=n, nk=nk, dv=dv, opset=NEWEST)
    assert ops(lowered_to_it(model, feeds(3, 4, 5, n=n, nk=nk, dv=dv))) == ["Attention"]


@pytest.mark.parametrize("kind", ["bool", "inf", "lowest"])
def test_rows_that_give_nan_go_to_the_other_kernel(kind: str) -> None:
    """The masks are graph inputs: nobody knows that a row keeps a key."""
    mask = make_mask((3, 1, 4, 5), kind)
    lowered = assert_lowers(attention(mask, safe=0, opset=NEWEST), feeds(3, 4, 5, mask=mask))
    assert "MultiHeadAttention" in ops(lowered)


def chosen(low: float, *, calls: int = 1, safe: int = 0) -> ir.Model:
    """Attention whose mask selects 0 or ``low``, as models make it of a mask of tokens."""
    zeros = np.zeros((3, 1, 1, 5), np.float32)
    model = attention(zeros, ("b", 1, 1, "t"), calls=calls, safe=safe, opset=NEWEST)
    keep = model.graph.inputs[3]
    keep.type = ir.TensorType(ir.DataType.BOOL)
    numbers = []
    for number in (0.0, low):
        tensor = ir.tensor(np.array(number, np.float32), name=f"number{number}")
        value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        model.graph.register_initializer(value)
        numbers.append(value)
    where = ir.node("Where", [keep, *numbers])
    where.outputs[0].shape, where.outputs[0].type = keep.shape, ir.TensorType(ir.DataType.FLOAT)
    first = model.graph[0]
    model.graph.insert_before(first, where)
    for call in list(model.graph)[1:]:
        call.replace_input_with(3, where.outputs[0])
    return model


@pytest.mark.parametrize("calls", [1, 3])
def test_lowest_is_not_taken_for_minus_infinity(calls: int) -> None:
    """Plain softmax spreads a row of lowest floats evenly, where the kernel would give 0."""
    keep = make_mask((3, 1, 1, 5), "bool")
    assert not keep[0].any()
    lowered = lowered_to_it(chosen(LOWEST, calls=calls), feeds(3, 4, 5, mask=keep))
    assert ops(lowered) == ["Where", "Max", *["Shape", "Shape", "Concat", "Expand"], *["Attention"] * calls]


def test_moderate_mask_needs_no_floor() -> None:
    keep = make_mask((3, 1, 1, 5), "bool")
    assert "Max" not in ops(lowered_to_it(chosen(-1e4), feeds(3, 4, 5, mask=keep)))


def test_bounds_see_that_a_sum_of_two_lowest_is_infinite() -> None:
    mask = chosen(LOWEST).graph[0].outputs[0]
    assert bounds(mask) == (np.float32(LOWEST), 0)
    add = ir.node("Add", [mask, mask])
    add.outputs[0].type = mask.type
    assert bounds(add.outputs[0]) is None


@pytest.mark.parametrize("kind", [None, ir.DataType.FLOAT, ir.DataType.BOOL])
@pytest.mark.parametrize("causal", [0, 1])
def test_capped_scores(kind: ir.DataType | None, causal: int) -> None:
    form = _bodies.AttentionForm(
        NEWEST, ir.DataType.FLOAT, ir.DataType.FLOAT, "q", kind, bool(causal), True, 2, 2, True
    )
    heads = {"q": N, "k": 2, "v": 2}
    inputs = {x: ("f", ("b", n, "s" if x == "q" else "t", D)) for x, n in heads.items()}
    given_feeds = feeds(3, 4, 5, nk=2, rank4=True)
    if kind is not None:
        mask = make_mask((3, 1, 4, 5), "bool" if kind == ir.DataType.BOOL else "lowest")
        inputs["mask"], given_feeds["mask"] = ("?" if mask.dtype == bool else "f", ("b", 1, "s", "t")), mask
    attributes = {"scale": 0.3, "softcap": 1.5, "causal": causal, "safe": 1}
    model = call_model(
        "CappedAttention",
        inputs,
        _bodies.attention(form),
        attributes,
        [("f", ("b", N, "s", D))],
        opset=NEWEST,
    )
    lowered_to_it(model, given_feeds)


def test_half_precision_is_inlined_and_says_why() -> None:
    lowered, report = legalized(attention(code="e", opset=NEWEST))
    assert "Softmax" in ops(lowered)
    assert any("q is float16" in skip.reason for skip in report.skipped)


def test_gate_can_choose_the_other_kernel() -> None:
    lowered, _ = legalized(attention(opset=NEWEST), attention="MultiHeadAttention")
    assert ops(lowered) == ["MultiHeadAttention"]


@pytest.mark.parametrize(
    ("masked", "fits"), [(-np.inf, True), (-1e4, True), (LOWEST, False), (np.nan, False)], ids=str
)
def test_what_a_choice_between_constants_can_hold(masked: float, fits: bool) -> None:
    assert masked_or_above(chosen(masked).graph[0].outputs[0], -1e30) == fits


def test_minus_infinity_and_moderate_numbers_are_masks_as_they_are() -> None:
    keep = make_mask((3, 1, 1, 5), "bool")
    model = chosen(-np.inf, safe=1)
    assert [op for op in ops(lowered_to_it(model, feeds(3, 4, 5, mask=keep))) if op != "Shape"] == [
        "Where", "Concat", "Expand", "Attention",
    ]  # fmt: skip
