"""Activations on ONNX Runtime's CPU kernels."""

from __future__ import annotations

import onnx_ir as ir

from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.kernels import has_kernel
from optc.codegen.ort.lowering import equal_shapes, lowering, need_kernel
from optc.rewrite import opset

_QUICK_ALPHA = 1.702  # of the sigmoid approximation of GELU, x * sigmoid(1.702 x)


@lowering("Gelu", "Gelu", "gelu")
def gelu(b: Builder) -> list[ir.Value]:
    """Exact, tanh or quick GELU: ai.onnx.Gelu where the opset has it, else the runtime's own."""
    op, attrs, contrib = _gelu_op(b)
    out = b.result()
    b.insert(op, [b.arg("x")], [out], attrs=attrs, contrib=contrib)
    return [out]


@lowering("BiasGelu", "BiasGelu", "gelu")
def bias_gelu(b: Builder) -> list[ir.Value]:
    """The bias and the activation in one kernel; the bias is one number per feature."""
    kind = _approximation(b)
    if len(b.shape("x")) == 0 or not equal_shapes(b.shape("bias"), b.shape("x")[-1:]):
        raise Refuse("the bias is not known to be one number per feature of x")
    if kind == "quick":
        raise Refuse("there is no kernel for a bias and the quick GELU")
    op = "FastGelu" if kind == "tanh" else "BiasGelu"
    need_kernel(b, op, contrib=True, T=b.dtype("x"))
    out = b.result()
    b.insert(op, [b.arg("x"), b.arg("bias")], [out], contrib=True)
    return [out]


@lowering("BiasGelu", "Gelu", "gelu")
def add_gelu(b: Builder) -> list[ir.Value]:
    """A plain addition, then GELU: the runtime may move the addition into a neighbour."""
    op, attrs, contrib = _gelu_op(b)
    out = b.result()
    total = b.op("Add", b.arg("x"), b.arg("bias"), shape=b.call.outputs[0].shape)
    b.insert(op, [total], [out], attrs=attrs, contrib=contrib)
    return [out]


@lowering("SiLU", "QuickGelu", "silu")
def silu(b: Builder) -> list[ir.Value]:
    """x * sigmoid(x) is the quick GELU with alpha 1."""
    need_kernel(b, "QuickGelu", contrib=True, T=b.dtype("x"))
    out = b.result()
    b.insert("QuickGelu", [b.arg("x")], [out], attrs={"alpha": 1.0}, contrib=True)
    return [out]


@lowering("SwiGLU", "QuickGelu", "silu")
def swiglu(b: Builder) -> list[ir.Value]:
    """silu(gate) * up."""
    need_kernel(b, "QuickGelu", contrib=True, T=b.dtype("gate"))
    gate = b.arg("gate")
    out = b.result()
    gated = b.op("QuickGelu", gate, attrs={"alpha": 1.0}, shape=gate.shape, contrib=True)
    b.insert("Mul", [gated, b.arg("up")], [out])
    return [out]


def _approximation(b: Builder) -> str:
    kind = b.text("approximate") or "none"
    if kind not in ("none", "tanh", "quick"):
        raise Refuse(f"unknown approximation {kind!r}")
    return kind


def _gelu_op(b: Builder) -> tuple[str, dict[str, object], bool]:
    """The operator, its attributes, and whether it is the runtime's own."""
    kind, dtype = _approximation(b), b.dtype("x")
    if kind == "quick":
        need_kernel(b, "QuickGelu", contrib=True, T=dtype)
        return "QuickGelu", {"alpha": _QUICK_ALPHA}, True
    if has_kernel("", "Gelu", opset(b.model), {"T": dtype}):
        return "Gelu", {"approximate": kind}, False
    if kind == "none":
        need_kernel(b, "Gelu", contrib=True, T=dtype)
        return "Gelu", {}, True
    need_kernel(b, "FastGelu", contrib=True, T=dtype)
    if len(b.shape("x")) == 0:
        raise Refuse("the kernel of FastGelu does not take scalars")
    return "FastGelu", {}, True
