"""Elementwise operators."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch.nn import functional as F

from optc.errors import UserError

from .table import Node, Op, Tensor, dtype_of, plain


def _div(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _pow(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b).to(a.dtype)


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    smallest = node.get("min") if low is None else low
    largest = node.get("max") if high is None else high
    return x if smallest is None and largest is None else torch.clamp(x, smallest, largest)


def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(dtype_of(node.get("to")))


def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


def _dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
    if training is not None and bool(training):
        raise UserError("Dropout in training mode has no translation", where="to_module")
    return x, torch.ones_like(x, dtype=torch.bool)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _variadic(function: Any) -> Op:
    return lambda node, *inputs: reduce(function, inputs)


POINTWISE_OPS: dict[str, Op] = {
    "Add": plain(torch.add), "Sub": plain(torch.sub), "Mul": plain(torch.mul), "Div": plain(_div),
    "Mod": _mod, "Pow": plain(_pow), "Neg": plain(torch.neg), "Abs": plain(torch.abs),
    "Sign": plain(torch.sign), "Sqrt": plain(torch.sqrt), "Reciprocal": plain(torch.reciprocal),
    "Exp": plain(torch.exp), "Log": plain(torch.log), "Erf": plain(torch.erf), "Sin": plain(torch.sin),
    "Cos": plain(torch.cos), "Tan": plain(torch.tan), "Atan": plain(torch.atan), "Sinh": plain(torch.sinh),
    "Cosh": plain(torch.cosh), "Floor": plain(torch.floor), "Ceil": plain(torch.ceil),
    "Round": plain(torch.round), "IsNaN": plain(torch.isnan), "Not": plain(torch.logical_not),
    "And": plain(torch.logical_and), "Or": plain(torch.logical_or), "Xor": plain(torch.logical_xor),
    "Equal": plain(torch.eq), "Less": plain(torch.lt), "LessOrEqual": plain(torch.le),
    "Greater": plain(torch.gt), "GreaterOrEqual": plain(torch.ge), "Where": plain(torch.where),
    "Sum": _variadic(torch.add), "Max": _variadic(torch.maximum), "Min": _variadic(torch.minimum),
    "Relu": plain(F.relu), "Sigmoid": plain(torch.sigmoid), "Tanh": plain(torch.tanh),
    "Softplus": plain(lambda x: F.softplus(x, threshold=1e9)), "Softsign": plain(F.softsign),
    "Mish": plain(F.mish), "HardSwish": plain(F.hardswish), "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)), "PRelu": plain(_prelu),
    "Gelu": _gelu, "Clip": _clip, "Cast": _cast, "Identity": plain(lambda x: x),
    "Swish": lambda node, x: x * torch.sigmoid(node.get("alpha", 1.0) * x),
    "Dropout": _dropout,
}  # fmt: skip
