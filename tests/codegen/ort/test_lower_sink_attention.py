"""Sinks as one more key: the kernel computes what the function does, and what it cannot stays inlined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from fused_calls import assert_lowers, assert_same, call_model, legalized, ops, run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lower_attention import D, make_mask

from optc.capture.opset import newest_opset
from optc.codegen.ort.kernels import has_kernel
from optc.passes.fuse import _bodies

NEWEST = newest_opset() or 0
FLOAT, BOOL = ir.DataType.FLOAT, ir.DataType.BOOL
pytestmark = pytest.mark.skipif(
    not has_kernel("", "Attention", NEWEST, {"T1": FLOAT}),
    reason="the installed ONNX Runtime has no CPU kernel of Attention",
)


def attention(
    sink: np.ndarray | None, mask: np.ndarray | None = None, *, n: int = 4, nk: int = 2, dv: int = D,
    causal: int = 0, safe: int = 0, scale: float = 0.3, calls: int = 1, mask_dims: Sequence[int | str] = (),
) -> ir.Model:  # fmt: skip
    kind = None if mask is None else BOOL if mask.dtype == bool else FLOAT
    form = _bodies.AttentionForm(
        NEWEST, FLOAT, FLOAT, "q", kind, bool(causal), bool(safe), nk, n // nk, sink=True
    )
    inputs: dict[str, tuple[str, Sequence[int | str]]] = {
        "q": ("f", ("b", n, "s", D)), "k": ("f", ("b", nk, "t", D)), "v": ("f", ("b", nk, "t", dv)),
        "sink": ("f", ("b", n, "s", 1)),
    }  # fmt: skip
    if mask is not None:
        inputs["mask"] = ("?" if kind == BOOL else "f", mask_dims or mask.shape)
    attributes = {"scale": scale, "causal": causal, "safe": safe}
    constants = {} if sink is None else {"sink": sink}
    return call_model(
        "SinkAttention", inputs, _bodies.attention(form), attributes, [("f", ("b", n, "s", dv))],
        opset=NEWEST, constants=constants, calls=calls,
    )  # fmt: skip


def feeds(
    b: int, s: int, t: int, mask: np.ndarray | None = None, *, n: int = 4, nk: int = 2, dv: int = D
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"q": (b, n, s, D), "k": (b, nk, t, D), "v": (b, nk, t, dv)}
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return made if mask is None else {**made, "mask": mask}


def learned(n: int) -> np.ndarray:
    return np.linspace(-3, 3, n, dtype=np.float32).reshape(1, n, 1, 1)


@settings(max_examples=60, deadline=None, database=None)
@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 8), st.integers(1, 8)),
    kind=st.sampled_from([None, "bool", "inf", "lowest"]),
    causal=st.integers(0, 1),
    safe=st.integers(0, 1),
    wide=st.booleans(),
    scale=st.sampled_from([0.3, 1.0]),
)
def test_any_call_is_right(
    sizes: tuple[int, ...], kind: str | None, causal: int, safe: int, wide: bool, scale: float
) -> None:
    """Rows without a key, lengths that differ, shared heads: all are taken by the kernel."""
    b, nk, group, s, t = sizes
    mask = None if kind is None else make_mask((b, 1, s, t), kind)
    shape = {"n": nk * group, "nk": nk, "dv": 12 if wide else D}
    model = attention(
        learned(nk * group),
        mask,
        causal=causal,
        safe=safe,
        scale=scale,
        mask_dims=("b", 1, "s", "t"),
        **shape,
    )
    lowered = assert_lowers(model, feeds(b, s, t, mask, **shape))
    assert ops(lowered).count("Attention") == 1


@pytest.mark.parametrize("dims", [(5,), (4, 1), (1, 1), (4, 5), (3, 1, 1, 5), (3, 4, 4, 5)], ids=str)
@pytest.mark.parametrize("kind", ["bool", "inf"])
def test_masks_of_every_form(dims: tuple[int, ...], kind: str) -> None:
    mask = make_mask(dims, kind)
    assert_lowers(attention(learned(4), mask, mask_dims=dims), feeds(3, 4, 5, mask))


def test_layers_share_the_mask_with_the_column_of_the_sink() -> None:
    mask = make_mask((3, 1, 4, 5), "inf")
    model = attention(learned(4), mask, mask_dims=("b", 1, "s", "t"), calls=3)
    lowered = assert_lowers(model, feeds(3, 4, 5, mask))
    assert ops(lowered).count("Attention") == 3
    last = [node for node in lowered.graph if node.op_type == "Attention"]
    assert len({node.inputs[3] for node in last}) == 1


@pytest.mark.parametrize(
    ("sink", "reason"),
    [
        (None, "the sink is not a constant, and could be infinite"),
        (np.full((1, 4, 1, 1), -np.inf, np.float32), "a sink is infinite, or next to it"),
        (np.full((1, 4, 1, 1), 1e31, np.float32), "a sink is infinite, or next to it"),
    ],
    ids=["input", "infinite", "huge"],
)
def test_what_the_extra_column_cannot_say_is_inlined(sink: np.ndarray | None, reason: str) -> None:
    model, inputs = attention(sink), feeds(3, 4, 5)
    if sink is None:
        inputs["sink"] = np.full((3, 4, 4, 1), -np.inf, np.float32)
    lowered, report = legalized(model)
    assert [skip.reason.split(": ")[-1] for skip in report.skipped] == [reason]
    assert "Attention" not in ops(lowered)
    assert_same(run(model, inputs), run(lowered, inputs))


def test_scales_that_the_kernel_reads_otherwise_are_inlined() -> None:
    lowered, report = legalized(attention(learned(4), scale=-0.5))
    assert "positive scales" in report.skipped[0].reason and "Attention" not in ops(lowered)
