"""Products, convolutions, pools, norms and softmaxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from optc.errors import UserError

from .table import Node, Op, Tensor, plain


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha * op(a) @ op(b) + beta * c."""
    a = a.mT if node.get("transA", 0) else a
    b = b.mT if node.get("transB", 0) else b
    y: Tensor = node.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + node.get("beta", 1.0) * c


def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """A convolution over one to three spatial dimensions; the padding may differ at both ends."""
    rank = w.ndim - 2
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    x = F.pad(x, _flat(_pads(node, x, list(w.shape[2:]), strides, dilations)))
    function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(x, w, b, stride=strides, dilation=dilations, groups=node.get("group", 1))


def _conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = w.ndim - 2
    pads = node.get("pads", [0] * 2 * rank)
    if pads[:rank] != pads[rank:] or node.get("auto_pad", "NOTSET") != "NOTSET" or node.get("output_shape"):
        raise UserError(
            "ConvTranspose with uneven or automatic padding has no translation", where="to_module"
        )
    function: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return function(
        x, w, b, stride=node.get("strides", [1] * rank), padding=pads[:rank],
        output_padding=node.get("output_padding", [0] * rank), groups=node.get("group", 1),
        dilation=node.get("dilations", [1] * rank),
    )  # fmt: skip


def _pads(
    node: Node, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> list[tuple[int, int]]:
    """Padding before and after each spatial dimension."""
    rank, mode = len(kernel), node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = node.get("pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
        return [(pads[i], pads[i + rank]) for i in range(rank)]
    result = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return result


def _flat(pads: list[tuple[int, int]]) -> list[int]:
    return [amount for pair in reversed(pads) for amount in pair]


def _max_pool(node: Node, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads = _window(node, x)
    x = F.pad(x, _flat(pads), value=float("-inf"))
    function: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return function(x, kernel, strides, dilation=dilations)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads = _window(node, x)
    if any(d != 1 for d in dilations):
        raise UserError("AveragePool with dilation has no translation", where="to_module")
    function: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    y = function(F.pad(x, _flat(pads)), kernel, strides)
    if node.get("count_include_pad", 0) or not any(map(any, pads)):
        return y
    return y / function(F.pad(torch.ones_like(x), _flat(pads)), kernel, strides)


def _window(node: Node, x: Tensor) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
    if node.get("ceil_mode", 0):
        raise UserError("pools with ceil_mode have no translation", where="to_module")
    kernel = node.get("kernel_shape")
    strides, dilations = node.get("strides", [1] * len(kernel)), node.get("dilations", [1] * len(kernel))
    return kernel, strides, dilations, _pads(node, x, kernel, strides, dilations)


def _global_pool(function: Callable[..., Tensor]) -> Op:
    return lambda node, x: function(x, tuple(range(2, x.ndim)), keepdim=True)


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=node.get("epsilon", 1e-5))


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if scale.shape[0] != x.shape[1]:  # one per group, before opset 21
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """LayerNormalization; its statistics are not given out."""
    axis = node.get("axis", -1) % x.ndim
    y = F.layer_norm(x, x.shape[axis:], eps=node.get("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    """RMSNormalization."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


def _softmax(function: Callable[..., Tensor]) -> Op:
    def op(node: Node, x: Tensor) -> Tensor:
        if node.version >= 13:
            return function(x, node.get("axis", -1))
        return function(x.flatten(node.get("axis", 1)), -1).reshape(x.shape)

    return op


def _einsum(node: Node, *operands: Any) -> Tensor:
    return torch.einsum(node.get("equation"), *operands)


NEURAL_OPS: dict[str, Op] = {
    "MatMul": plain(torch.matmul), "Gemm": gemm, "Einsum": _einsum, "Conv": conv,
    "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool(torch.mean), "GlobalMaxPool": _global_pool(torch.amax),
    "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm, "LayerNormalization": layer_norm, "RMSNormalization": rms_norm,
    "SimplifiedLayerNormalization": rms_norm, "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
}  # fmt: skip
