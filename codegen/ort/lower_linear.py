"""Matrix products on ONNX Runtime's CPU kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.kernels import takes_activation
from optc.codegen.ort.lowering import lowering, need_kernel
from optc.match import is_constant
from optc.rewrite import opset

_GEMM_ATTRIBUTES = ("alpha", "beta", "transA", "transB")


@lowering("PackedLinear", "MatMul", "packed-linear")
def separate_linear(b: Builder) -> list[ir.Value]:
    """A product each: the copies of a split cost more than is won, and attention can take the biases."""
    x, turned = b.arg("x"), b.attribute("transB", 0)
    outputs = []
    for i, (weight, bias) in enumerate(_projections(b)):
        out = b.result(i)
        if turned:
            b.insert("Gemm", [x, weight, *([] if bias is None else [bias])], [out], attrs={"transB": 1})
        elif bias is None:
            b.insert("MatMul", [x, weight], [out])
        else:
            b.insert("Add", [b.op("MatMul", x, weight, shape=out.shape), bias], [out])
        outputs.append(out)
    return outputs


@lowering("PackedLinear", "PackedMatMul", "packed-linear")
def packed_linear(b: Builder) -> list[ir.Value]:
    """One product with all weights side by side, then a split."""
    if opset(b.model) < 13:
        raise Refuse("written for opset 13 and newer")
    weights, biases = zip(*_projections(b), strict=True)
    turned = bool(b.attribute("transB", 0))  # [N, K] weights of a Gemm
    widths = [_width(w, 0 if turned else 1) for w in weights]
    parts = [_bias(bias, width, w) for bias, width, w in zip(biases, widths, weights, strict=True)]
    total = sum(widths)
    x = b.arg("x")
    lead = None if x.shape is None else list(x.shape[:-1])
    wide = None if lead is None else [*lead, total]
    packed = b.weight(concatenated([_tensor(w) for w in weights], axis=0 if turned else 1), "weight")
    bias = b.constant(np.concatenate(parts), "bias") if any(each is not None for each in biases) else None
    if turned:
        y = b.op("Gemm", x, packed, *([bias] if bias is not None else []), attrs={"transB": 1}, shape=wide)
    else:
        y = b.op("MatMul", x, packed, shape=wide)
        y = y if bias is None else b.op("Add", y, bias, shape=wide)
    outputs = [b.result(i) for i in range(len(weights))]
    b.insert("Split", [y, b.ints(*widths)], outputs, attrs={"axis": -1})
    return outputs


@lowering("FusedGemm", "FusedGemm", "gemm")
def fused_gemm(b: Builder) -> list[ir.Value]:
    """com.microsoft.FusedGemm: the activation is applied by the product's own threads."""
    op = "FusedGemm" if b.text("activation") else "Gemm"
    need_kernel(b, op, contrib=op == "FusedGemm", T=b.dtype("a"))
    activation = b.activation()
    if activation and not takes_activation(op, activation):
        raise Refuse(f"the kernel of FusedGemm does not take the activation {dict(activation)}")
    attrs = {name: b.attribute(name) for name in _GEMM_ATTRIBUTES}
    attrs |= dict(activation)
    out = b.result()
    c = [b.args["c"]] if "c" in b.args else []
    b.insert(op, [b.arg("a"), b.arg("b"), *c], [out], attrs=attrs, contrib=op == "FusedGemm")
    return [out]


def _projections(b: Builder) -> list[tuple[ir.Value, ir.Value | None]]:
    """The weights and their biases, in order."""
    numbers = range(1, len(b.args))
    return [(b.args[f"w{i}"], b.args.get(f"b{i}")) for i in numbers if f"w{i}" in b.args]


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    if not is_constant(value) or value.const_value is None:
        raise Refuse(f"{value.name!r} is not a constant")
    return value.const_value


def _width(weight: ir.Value, axis: int) -> int:
    shape = _tensor(weight).shape
    if len(shape) != 2:
        raise Refuse(f"the weight {weight.name!r} has rank {len(shape)}")
    return shape.numpy()[axis]


def _bias(bias: ir.Value | None, width: int, weight: ir.Value) -> np.ndarray:
    """One number per output; zeros where there is no bias."""
    if bias is None:
        return np.zeros(width, _tensor(weight).dtype.numpy())
    if _tensor(bias).size not in (1, width):
        raise Refuse(f"the bias {bias.name!r} is not one number per output")
    return np.broadcast_to(_tensor(bias).numpy().reshape(-1), width)


def concatenated(tensors: Sequence[ir.TensorProtocol], axis: int) -> ir.LazyTensor:
    """Tensors joined along an axis, made when they are written and not kept: weights exist only once."""
    dims = list(tensors[0].shape.numpy())
    dims[axis] = sum(tensor.shape.numpy()[axis] for tensor in tensors)
    dtype = tensors[0].dtype

    def join() -> ir.TensorProtocol:
        return ir.Tensor(np.concatenate([tensor.numpy() for tensor in tensors], axis), dtype=dtype)

    return ir.LazyTensor(join, dtype=dtype, shape=ir.Shape(dims), cache=False)
