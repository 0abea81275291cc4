"""Convolutions on ONNX Runtime's CPU kernels."""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.kernels import takes_activation
from optc.codegen.ort.lowering import lowering, need_kernel

_NAMES = (
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
    "activation",
    "activation_params",
)


@lowering("FusedConv", "FusedConv", "conv")
def fused_conv(b: Builder) -> list[ir.Value]:
    """com.microsoft.FusedConv: bias and activation inside the convolution.

    Not the residual: the runtime turns convolutions into its blocked layout at load, and then takes the Add
    behind one into it, but leaves a FusedConv that has a residual in the plain layout, with reorders around.
    """
    if "residual" in b.args:
        raise Refuse("the runtime fuses the residual itself, in the blocked layout")
    need_kernel(b, "FusedConv", contrib=True, T=b.dtype("x"))
    activation = b.activation()
    if activation and not takes_activation("FusedConv", activation):
        raise Refuse(f"the kernel of FusedConv does not take the activation {dict(activation)}")
    inputs = [b.arg("x"), b.arg("w"), b.args.get("b")]
    while inputs[-1] is None:
        inputs.pop()
    out = b.result()
    attrs = {name: b.attribute(name) for name in _NAMES} | dict(activation)
    b.insert("FusedConv", inputs, [out], attrs=attrs, contrib=True)
    return [out]
