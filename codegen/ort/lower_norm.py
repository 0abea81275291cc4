"""Normalizations on ONNX Runtime's CPU kernels.

The skip kernels take inputs of rank 2 or 3, add ``skip`` of x's shape (or without the batch dimension), and
give wrong results without a word where x is the one that broadcasts: so shapes must be known to fit.
"""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.dims import known
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
    """Additions, then LayerNormalization: any rank and any broadcasting."""
    return _sum_then(b, "LayerNormalization")


@lowering("SkipRMSNorm", "SimplifiedLayerNormalization", "skip-norm")
def sum_rms_norm(b: Builder) -> list[ir.Value]:
    """Additions, then SimplifiedLayerNormalization: any rank and any broadcasting."""
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
    """Additions, then the norm, such that the runtime's own optimizer makes no skip kernel of them.

    With 4 products, sums and norms of [1, 128, 384] on two threads a call took 7.0 ms with the skip kernel
    and 1.8 ms without. Sum is taken where the optimizer would fuse an Add; it runs on one thread: MiniLM-L6
    at (8, 128) takes 133.8 ms with Sum, 129.1 ms with two Adds.
    """
    need_kernel(b, op, T=b.dtype("x"))
    need_kernel(b, "Add", T=b.dtype("x"))
    result = b.call.outputs[0]
    if result.shape is None or len(result.shape) == 0:
        raise Refuse("the rank of the result is unknown")
    _check_affine(b, result.shape[-1:])
    total = b.result(1, result.shape) if len(b.call.outputs) > 1 else b.result(0)
    y = b.result(0)
    x, skip, bias = b.arg("x"), b.arg("skip"), b.args.get("bias")
    if bias is not None and len(result.shape) == 2:
        b.insert("Add", [b.op("Add", x, bias, shape=x.shape), skip], [total])  # product and bias are a Gemm
    elif bias is not None:
        b.insert("Add", [b.op("Add", x, skip, shape=result.shape), bias], [total])
    else:
        b.insert("Sum" if _would_be_fused(b, op) else "Add", [x, skip], [total])
    affine = [b.args[name] for name in ("gamma", "beta") if name in b.args]
    axis = len(result.shape) - 1
    b.insert(op, [total, *affine], [y], attrs={"axis": axis, "epsilon": _epsilon(b)})
    return [y, total][: len(b.call.outputs)]


def _would_be_fused(b: Builder, op: str) -> bool:
    """Whether the runtime takes an Add of x and skip and the norm for a skip norm; found by experiment."""
    total = b.call.outputs[1] if len(b.call.outputs) > 1 else None
    read_elsewhere = total is not None and (bool(total.uses()) or total.is_graph_output())
    shapes = b.arg("x").shape, b.arg("skip").shape
    return (
        op == "LayerNormalization"
        and not read_elsewhere
        and all(shape is None or len(shape) == 3 for shape in shapes)
        and (None in shapes or not _differ(*shapes))
    )


def _differ(a: ir.Shape | None, b: ir.Shape | None) -> bool:
    """Whether a dimension is known in both, and not the same."""
    assert a is not None and b is not None
    return any(known(x) and known(y) and x != y for x, y in zip(a, b, strict=True))


def _check_affine(b: Builder, normalized: tuple[object, ...]) -> None:
    for name in ("gamma", "beta", "bias"):
        if name in b.args and not equal_shapes(b.shape(name), normalized):
            given = _text(b.shape(name))
            raise Refuse(f"{name} {given} is not known to have the normalized shape {_text(normalized)}")


def _epsilon(b: Builder) -> float:
    return float(b.attribute("epsilon"))


def _text(shape: ir.Shape | tuple[object, ...]) -> str:
    return "[" + ", ".join("?" if str(d) == "None" else str(d) for d in shape) + "]"
