"""Quantized products on ONNX Runtime's CPU kernels."""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import lowering, need_kernel


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


def _weights(b: Builder) -> tuple[ir.Value, ir.Value, ir.Value | None, ir.Value | None]:
    """Codes, scale, zero point and bias."""
    if b.dtype("x") != ir.DataType.FLOAT:
        raise Refuse(f"the input is {b.dtype('x')}, not float32")
    return b.arg("w"), b.arg("scale"), b.args.get("zero"), b.args.get("bias")
