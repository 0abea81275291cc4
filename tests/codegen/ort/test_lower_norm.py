"""Norms compute the same in the runtime's kernels as in their bodies, or are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from fused_calls import assert_lowers, call_model, legalized, ops

H = 9
EPSILON = 1e-4  # large enough to show when it gets lost
LN = """c = Sub(z, m)  s = Mul(c, c)  v = ReduceMean<keepdims=1>(s, ax)
  e = Constant<value_float: float=@epsilon>()  ve = Add(v, e)  d = Sqrt(ve)
  n = Div(c, d)  g = Mul(n, gamma)"""
RMS = """s = Mul(z, z)  v = ReduceMean<keepdims=1>(s, ax)
  e = Constant<value_float: float=@epsilon>()  ve = Add(v, e)  d = Sqrt(ve)
  n = Div(z, d)  g = Mul(n, gamma)"""


def norm(
    kind: str,
    x: Sequence[int | str],
    skip: Sequence[int | str] | None = None,
    *,
    axis: int = -1,
    beta: bool = True,
    bias: bool = False,
    outputs: int = 1,
) -> ir.Model:
    """A model of one call; the result has the shape of x."""
    rms = "RMS" in kind
    normalized = tuple(x[axis:])
    names = {"x": ("f", x)} | ({} if skip is None else {"skip": ("f", skip)}) | {"gamma": ("f", normalized)}
    names |= {"beta": ("f", normalized)} if beta and not rms else {}
    names |= {"bias": ("f", normalized)} if bias else {}
    axes = list(range(axis, 0))
    lines = [f"ax = Constant<value_ints={axes}>()"]
    lines.append("z0 = Identity(x)" if skip is None else "z0 = Add(x, skip)")
    lines.append("z = Add(z0, bias)" if bias else "z = Identity(z0)")
    lines += [RMS] if rms else ["m = ReduceMean<keepdims=1>(z, ax)", LN]
    lines.append("y = Add(g, beta)" if "beta" in names else "y = Identity(g)")
    results = "y" if outputs == 1 else "y, z"
    body = f"({', '.join(names)}) => ({results}) {{ " + "\n".join(lines) + " }"
    attributes = {"epsilon": EPSILON} | ({} if skip is not None else {"axis": axis})
    return call_model(kind, names, body, attributes, [("f", x)] * outputs)


def feeds(model: ir.Model, **sizes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    made = {}
    for value in model.graph.inputs:
        shape = [d if isinstance(d, int) else sizes[str(d.value)] for d in value.shape]
        made[str(value.name)] = rng.standard_normal(shape).astype(np.float32) * 0.1
    return made


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize(
    "dims,axis", [(("b", "s", H), -1), ((3, 5, H), -2), ((H,), -1), (("b", 2, 3, H), -1), ((0, H), -1)]
)
def test_norms(kind: str, dims: tuple[int | str, ...], axis: int) -> None:
    model = norm(kind, dims, axis=axis)
    assert len(ops(assert_lowers(model, feeds(model, b=3, s=5)))) == 1


def test_layer_norm_without_beta() -> None:
    model = norm("LayerNorm", ("b", H), beta=False)
    assert ops(assert_lowers(model, feeds(model, b=3))) == ["LayerNormalization"]


SKIP_FITS = [
    (("b", "s", H), ("b", "s", H)),
    (("b", "s", H), ("s", H)),
    (("b", "s", H), (1, "s", H)),
    (("b", H), ("b", H)),
]


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("kind", ["SkipLayerNorm", "SkipRMSNorm"])
@pytest.mark.parametrize("x,skip", SKIP_FITS, ids=str)
def test_skip_norms_in_one_kernel(x, skip, kind: str, beta: bool, bias: bool, outputs: int) -> None:
    model = norm(kind, x, skip, beta=beta, bias=bias, outputs=outputs)
    kernel = "SkipLayerNormalization" if kind == "SkipLayerNorm" else "SkipSimplifiedLayerNormalization"
    assert ops(assert_lowers(model, feeds(model, b=3, s=5), skip_norm=kernel)) == [kernel]


def test_smaller_first_operand_is_swapped() -> None:
    model = norm("SkipLayerNorm", (3, 5, H), (3, 5, H))
    model.graph.inputs[0].shape = ir.Shape([1, 5, H])
    lowered = assert_lowers(model, feeds(model), skip_norm="SkipLayerNormalization")
    assert str(next(iter(lowered.graph)).inputs[0].name) == "skip"


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("kind", ["SkipLayerNorm", "SkipRMSNorm"])
@pytest.mark.parametrize(
    "x,skip",
    [
        (("b", "s", H), ("c", "s", H)),
        (("b", "s", H), (1, 1, H)),
        (("b", "s", H), (H,)),
        (("b", 2, 3, H), ("b", 2, 3, H)),
    ],
    ids=str,
)
def test_skip_norms_that_the_kernel_gets_wrong_are_summed_first(x, skip, kind: str, outputs: int) -> None:
    model = norm(kind, x, skip, bias=True, outputs=outputs)
    kernel = "SkipLayerNormalization" if kind == "SkipLayerNorm" else "SkipSimplifiedLayerNormalization"
    lowered, report = legalized(model, skip_norm=kernel)
    assert kernel in report.skipped[0].reason
    assert kernel not in ops(lowered)
    inlined_free = kernel.removeprefix("Skip")
    assert ops(lowered) == ["Add", "Add", inlined_free]
    assert_lowers(model, feeds(model, b=3, c=3, s=5), skip_norm=inlined_free)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["SkipLayerNorm", "SkipRMSNorm"])
@pytest.mark.parametrize("x,skip", SKIP_FITS, ids=str)
def test_the_runtime_makes_no_skip_kernel_of_additions(
    tmp_path: Path, x, skip, kind: str, bias: bool, outputs: int
) -> None:
    model = norm(kind, x, skip, bias=bias, outputs=outputs)
    kernel = "LayerNormalization" if kind == "SkipLayerNorm" else "SimplifiedLayerNormalization"
    lowered = assert_lowers(model, feeds(model, b=3, s=5), skip_norm=kernel)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(
        ir.to_proto(lowered).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    assert kernel in ops(ir.load(tmp_path / "optimized.onnx"))


def test_only_what_the_runtime_would_fuse_is_a_sum() -> None:
    def adds(kind: str, skip: tuple[str | int, ...], **options: object) -> list[str]:
        lowered, _ = legalized(norm(kind, ("b", "s", H), skip, **options), skip_norm=_KERNEL[kind])
        return ops(lowered)[:-1]

    assert adds("SkipLayerNorm", ("b", "s", H)) == ["Sum"]
    assert adds("SkipLayerNorm", (1, "s", H)) == ["Add"]
    assert adds("SkipLayerNorm", ("b", "s", H), outputs=2) == ["Add"]
    assert adds("SkipLayerNorm", ("b", "s", H), bias=True) == ["Add", "Add"]
    assert adds("SkipRMSNorm", ("b", "s", H)) == ["Add"]


_KERNEL = {"SkipLayerNorm": "LayerNormalization", "SkipRMSNorm": "SimplifiedLayerNormalization"}


def test_gamma_that_broadcasts_is_refused() -> None:
    model = norm("LayerNorm", ("b", H))
    model.graph.inputs[1].shape = ir.Shape([1])
    lowered, report = legalized(model)
    assert "gamma [1] is not known to have the normalized shape" in report.skipped[0].reason
    assert "ReduceMean" in ops(lowered)
