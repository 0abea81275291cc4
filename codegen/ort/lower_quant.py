"""Quantized products on ONNX Runtime's CPU kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import lowering, need_kernel
from optc.cpu import int8_saturates

_NOT_SATURATING = 63  # the largest code of a weight of which two products with uint8 fit into int16


@lowering("DynamicQuantLinear", "MatMulIntegerToFloat", "quant")
def matmul_integer_to_float(b: Builder) -> list[ir.Value]:
    """com.microsoft.MatMulIntegerToFloat, behind one DynamicQuantizeLinear for all that read x.

    One product for all of them and a split behind it was not faster: 1% won at 16 tokens, 2% lost at 128.
    """
    weights = _weights(b)
    need_kernel(b, "MatMulIntegerToFloat", contrib=True, T1=ir.DataType.UINT8, T2=b.dtype("w"))
    codes, scale, zero = b.shared_codes(b.arg("x"))
    weight, weight_scale, weight_zero, bias = weights
    out = b.result()
    inputs = [codes, weight, scale, weight_scale, zero, weight_zero, bias]
    b.insert("MatMulIntegerToFloat", inputs, [out], contrib=True)
    return [out]


@lowering("DynamicQuantLinear", "DynamicQuantizeMatMul", "quant")
def dynamic_quantize_matmul(b: Builder) -> list[ir.Value]:
    """com.microsoft.DynamicQuantizeMatMul: range, codes, product, scale and bias in one kernel."""
    weights = _weights(b)
    need_kernel(b, "DynamicQuantizeMatMul", contrib=True, T1=b.dtype("x"), T2=b.dtype("w"))
    out = b.result()
    b.insert("DynamicQuantizeMatMul", [b.arg("x"), *weights], [out], contrib=True)
    return [out]


@lowering("GridLinear", "MatMulIntegerToFloat", "quant-grid")
def matmul_of_codes(b: Builder) -> list[ir.Value]:
    """com.microsoft.MatMulIntegerToFloat.

    As pairs the runtime takes the bias first, into a Gemm in float that unpacks the weight at every call.
    """
    if b.dtype("codes") != ir.DataType.UINT8:
        raise Refuse(f"the codes are {b.dtype('codes')}: the kernel is fast for uint8")
    _refuse_sums_that_saturate(b)
    need_kernel(b, "MatMulIntegerToFloat", contrib=True, T1=ir.DataType.UINT8, T2=b.dtype("w"))
    out = b.result()
    names = ("codes", "w", "step", "scale", "middle", "zero", "bias")
    inputs = [b.args.get(name) for name in names]
    while inputs[-1] is None:
        inputs.pop()
    b.insert("MatMulIntegerToFloat", inputs, [out], contrib=True)
    return [out]


def _refuse_sums_that_saturate(b: Builder) -> None:
    codes = match.constant(b.arg("w"))
    if not int8_saturates() or codes is None or codes.dtype == np.uint8:
        return
    if int(np.abs(codes.astype(np.int16)).max(initial=0)) > _NOT_SATURATING:
        raise Refuse("sums of two products of its codes saturate on this machine")


def _weights(b: Builder) -> tuple[ir.Value, ir.Value, ir.Value | None, ir.Value | None]:
    """Codes, scale, zero point and bias."""
    if b.dtype("x") != ir.DataType.FLOAT:
        raise Refuse(f"the input is {b.dtype('x')}, not float32")
    return b.arg("w"), b.arg("scale"), b.args.get("zero"), b.args.get("bias")
