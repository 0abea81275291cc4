"""Normalizations on ONNX Runtime's CPU kernels.

The skip kernels take inputs of rank 2 or 3, add ``skip`` of x's shape (or without the batch dimension), and
give wrong results without a word where x is the one that broadcasts: so shapes must be known to fit.
"""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import equal_shapes, lowering, need_kernel

_SUM_OUTPUT = 3  # of the skip kernels: x + skip + bias


@lowering("LayerNorm", "LayerNormalization", "norm")
def layer_norm(b: Builder) -> list[ir.Value]:
    """ai.onnx.LayerNormalization, which the runtime also has for opsets before 17."""
    return [_normalize(b, "LayerNormalization")]


@lowering("RMSNorm", "SimplifiedLayerNormalization", "norm")
def rms_norm(b: Builder) -> list[ir.Value]:
    """The runtime's own RMS normalization; ai.onnx has one only from opset 23."""
    return [_normalize(b, "SimplifiedLayerNormalization")]


@lowering("SkipLayerNorm", "SkipLayerNormalization", "skip-norm")
def skip_layer_norm(b: Builder) -> list[ir.Value]:
    """One kernel for the sum and its normalization."""
    return _skip(b, "SkipLayerNormalization", ["gamma", "beta", "bias"])


@lowering("SkipRMSNorm", "SkipSimplifiedLayerNormalization", "skip-norm")
def skip_rms_norm(b: Builder) -> list[ir.Value]:
    """One kernel for the sum and its RMS normalization."""
    return _skip(b, "SkipSimplifiedLayerNormalization", ["gamma", "bias"])


@lowering("SkipLayerNorm", "LayerNormalization", "skip-norm")
def sum_layer_norm(b: Builder) -> list[ir.Value]:
    """A sum, then LayerNormalization: any rank and any broadcasting."""
    return _sum_then(b, "LayerNormalization")


@lowering("SkipRMSNorm", "SimplifiedLayerNormalization", "skip-norm")
def sum_rms_norm(b: Builder) -> list[ir.Value]:
    """A sum, then SimplifiedLayerNormalization: any rank and any broadcasting."""
    return _sum_then(b, "SimplifiedLayerNormalization")


def _normalize(b: Builder, op: str) -> ir.Value:
    need_kernel(b, op, T=b.dtype("x"))
    shape = b.shape("x")
    axis = int(b.attribute("axis", -1)) % max(len(shape), 1)
    _check_affine(b, shape[axis:])
    out = b.result()
    affine = [b.args[name] for name in ("gamma", "beta") if name in b.args]
    b.insert(op, [b.arg("x"), *affine], [out], attrs={"axis": axis, "epsilon": _epsilon(b)})
    return out


def _skip(b: Builder, op: str, names: list[str]) -> list[ir.Value]:
    need_kernel(b, op, contrib=True, T=b.dtype("x"))
    if b.dtype("x") == ir.DataType.DOUBLE:
        raise Refuse(f"{op} is defined for no doubles, though there is a kernel")
    x, skip = _larger_first(b)
    shape = x.shape
    assert shape is not None
    if len(shape) not in (2, 3):
        raise Refuse(f"the kernel takes rank 2 or 3, and x has rank {len(shape)}")
    _check_affine(b, shape[-1:])
    outs = [b.result(i) for i in range(len(b.call.outputs))]
    outputs = [outs[0]]
    if len(outs) > 1:
        outputs += [ir.Value(name="") for _ in range(_SUM_OUTPUT - 1)] + [outs[1]]
    rest = [b.args.get(name) for name in names]
    while rest[-1] is None:
        rest.pop()
    b.insert(op, [x, skip, *rest], outputs, attrs={"epsilon": _epsilon(b)}, contrib=True)
    return outs


def _larger_first(b: Builder) -> tuple[ir.Value, ir.Value]:
    """x and skip, or skip and x, so that the second has the shape of the first, or that without batch."""
    x, skip = b.arg("x"), b.arg("skip")
    xs, ss = b.shape("x"), b.shape("skip")
    for first, second, a, c in ((x, skip, xs, ss), (skip, x, ss, xs)):
        tail = equal_shapes(a[-2:], c[-2:]) and len(a) == 3
        if equal_shapes(a, c) or (tail and (len(c) == 2 or (len(c) == 3 and c[0] == 1))):
            return first, second
    raise Refuse(f"x {_text(xs)} and skip {_text(ss)} are not known to have the same shape")


def _sum_then(b: Builder, op: str) -> list[ir.Value]:
    """Sum and not Add: the runtime's own optimizer fuses an Add with the norm into a skip kernel.

    Those kernels run in one piece per row and lose: with 4 products, sums and norms of [1, 128, 384] on two
    threads a call took 7.0 ms with Add (fused at load), 5.9 ms with the skip kernel, 1.8 ms with Sum; of
    [8, 128, 384], 66, 63 and 46 ms.
    """
    need_kernel(b, op, T=b.dtype("x"))
    need_kernel(b, "Sum", T=b.dtype("x"))
    result = b.call.outputs[0]
    if result.shape is None or len(result.shape) == 0:
        raise Refuse("the rank of the result is unknown")
    _check_affine(b, result.shape[-1:])
    total = b.result(1, result.shape) if len(b.call.outputs) > 1 else b.result(0)
    y = b.result(0)
    terms = [b.args[name] for name in ("x", "bias", "skip") if name in b.args]
    b.insert("Sum", terms, [total])
    affine = [b.args[name] for name in ("gamma", "beta") if name in b.args]
    axis = len(result.shape) - 1
    b.insert(op, [total, *affine], [y], attrs={"axis": axis, "epsilon": _epsilon(b)})
    return [y, total][: len(b.call.outputs)]


def _check_affine(b: Builder, normalized: tuple[object, ...]) -> None:
    for name in ("gamma", "beta", "bias"):
        if name in b.args and not equal_shapes(b.shape(name), normalized):
            given = _text(b.shape(name))
            raise Refuse(f"{name} {given} is not known to have the normalized shape {_text(normalized)}")


def _epsilon(b: Builder) -> float:
    return float(b.attribute("epsilon"))


def _text(shape: ir.Shape | tuple[object, ...]) -> str:
    return "[" + ", ".join("?" if str(d) == "None" else str(d) for d in shape) + "]"
