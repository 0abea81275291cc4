"""ONNX Runtime's own operators that legalized graphs contain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from optc.errors import UserError

from .neural import conv, gemm, layer_norm, rms_norm
from .pointwise import POINTWISE_OPS
from .table import Node, Op, Tensor


def _attention(
    node: Node, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, padding: Tensor | None = None,
    scores: Tensor | None = None, *rest: Any,
) -> Tensor:  # fmt: skip
    if padding is not None or any(value is not None for value in rest) or node.outputs > 1:
        raise UserError("MultiHeadAttention with a key mask or a cache has no translation", where="to_module")
    if bias is not None:
        width = q.shape[-1]
        bq, bk, bv = bias[:width], bias[width : 2 * width], bias[2 * width :]
        q, k, v = q + bq, k + bk, v + bv
    heads = node.get("num_heads")
    q, k, v = (x if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    weights: Tensor = (q @ k.mT) * (node.get("scale", 0.0) or q.shape[-1] ** -0.5)
    weights = weights if scores is None else weights + scores
    if node.get("unidirectional", 0):
        later = torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1)
        weights = weights.masked_fill(later, float("-inf"))
    result: Tensor = (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return result


def _skip_layer_norm(
    node: Node, x: Tensor, skip: Tensor, scale: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> Any:
    total = x + skip if bias is None else x + skip + bias
    return (layer_norm(node, total, scale, beta), None, None, total)


def _skip_rms_norm(node: Node, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    total = x + skip if bias is None else x + skip + bias
    return (rms_norm(node, total, scale), None, None, total)


def _activated(node: Node, y: Tensor, parameters: dict[str, Any]) -> Tensor:
    name = node.get("activation")
    if not name:
        return y
    result: Tensor = POINTWISE_OPS[name](replace(node, attributes=parameters), y)
    return result


def _fused_gemm(node: Node, *inputs: Tensor) -> Tensor:
    mark = "activation_"
    parameters = {n.removeprefix(mark): v for n, v in node.attributes.items() if n.startswith(mark)}
    return _activated(node, gemm(node, *inputs), parameters)


def _fused_conv(node: Node, *inputs: Tensor) -> Tensor:
    y = conv(node, *inputs[:3])
    y = y + inputs[3] if len(inputs) > 3 else y
    names = ("min", "max") if node.get("activation") == "Clip" else ("alpha", "beta")
    return _activated(node, y, dict(zip(names, node.get("activation_params", []), strict=False)))


def _quick_gelu(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.702) * x)


def _fast_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


CONTRIB_OPS: dict[str, Op] = {
    "MultiHeadAttention": _attention, "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_rms_norm, "FusedGemm": _fused_gemm, "FusedConv": _fused_conv,
    "Gelu": lambda node, x: F.gelu(x), "BiasGelu": lambda node, x, bias: F.gelu(x + bias),
    "QuickGelu": _quick_gelu, "FastGelu": _fast_gelu,
}  # fmt: skip
