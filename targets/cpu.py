"""The CPU target: ONNX Runtime with the kernels that the installed version has."""

from __future__ import annotations

import onnx_ir as ir

from optc.capture.opset import newest_opset
from optc.codegen.ort import (
    emit,
    kernels,
    lower_activation,
    lower_attention,
    lower_conv,
    lower_linear,
    lower_norm,
    lower_quant,
    lower_rotary,
    lower_sink_attention,
    lower_standard_attention,
    lower_weight_quant,
    options,
    pairs_apart,
    row_stride,
    runtime,
    store,
    tuned,
)
from optc.rewrite import opset
from optc.target import Target


def _legal(model: ir.Model, node: ir.Node) -> str | None:
    if node.op_identifier() in model.functions:
        return None  # a function of the captured model; the runtime inlines it
    version = opset(model) if node.domain in ("", "ai.onnx") else model.opset_imports.get(node.domain, 1)
    return kernels.why_illegal(node.domain, node.op_type, version)


def _finalize(model: ir.Model) -> bool:
    apart = pairs_apart.keep_apart(model)
    return store.store_narrow(model) or apart


def _max_opset() -> int:
    return newest_opset() or 1


TARGET = Target(
    name="cpu",
    summary="ONNX Runtime on the CPU; the artifact's model.onnx runs in any stock onnxruntime",
    pipelines={
        0: "",
        1: "simplify, fuse",
        2: "simplify, quantize, fuse",
        3: "simplify, skip-layers{ratio=0.1, compensate=true}, merge-tokens, quantize, fuse",
    },
    legal=_legal,
    lowerings=(  # of one kind in order of preference
        lower_standard_attention.multi_head_attention,
        lower_standard_attention.attention,
        lower_standard_attention.capped_attention,
        lower_sink_attention.sink_attention,
        lower_attention.multi_head_attention,
        lower_attention.attention,
        lower_rotary.rotary_embedding,
        lower_norm.layer_norm,
        lower_norm.rms_norm,
        lower_norm.sum_layer_norm,
        lower_norm.skip_layer_norm,
        lower_norm.sum_rms_norm,
        lower_norm.skip_rms_norm,
        lower_activation.gelu,
        lower_activation.bias_gelu,
        lower_activation.add_gelu,
        lower_activation.silu,
        lower_activation.swiglu,
        lower_linear.separate_linear,
        lower_linear.packed_linear,
        lower_linear.fused_gemm,
        lower_conv.fused_conv,
        lower_quant.matmul_integer_to_float,
        lower_quant.dynamic_quantize_matmul,
        lower_quant.matmul_of_codes,
        lower_weight_quant.matmul_nbits,
    ),
    layouts=(row_stride.LAYOUT,),
    emit=emit.emit,
    max_opset=_max_opset,
    keeps_kernel=kernels.keeps_kernel,
    finalize=_finalize,
    tuned_for=tuned.tuned_for,
    unlike=tuned.unlike,
    load=runtime.load,
    check_options=options.session_options,
    session=options.DEFAULTS,
)
