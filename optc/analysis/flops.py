"""How many floating-point operations an operator does, from the shapes of its operands (2 per MAC).

Rules return None when the shapes say too little. Dims may be symbolic: the result then is, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from optc.analysis.optypes import MOVES, ONE_PER_ELEMENT, PER_ELEMENT, POOLS, REDUCTIONS, VIEWS

Amount = int | ir.SymbolicDim
Dims = tuple[Amount, ...]


@dataclass(frozen=True)
class Signature:
    """A node as far as its cost depends on it: shapes are None when a dim of them is unknown."""

    op_type: str
    inputs: tuple[Dims | None, ...]
    outputs: tuple[Dims | None, ...]
    node: ir.Node

    def input(self, index: int) -> Dims | None:
        """Shape of an input, None if unknown or left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def ints(self, name: str, default: int) -> int:
        """Value of an integer attribute."""
        attr = self.node.attributes.get(name)
        return default if attr is None or attr.is_ref() else attr.as_int()


def product(dims: Iterable[Amount]) -> Amount:
    """Number of elements of a shape."""
    return math.prod(dims)


def flops(signature: Signature) -> Amount | None:
    """Returns the operation count, or None when it is unknown (see `is_counted`)."""
    op = signature.op_type
    if op in MOVES or op in VIEWS:
        return 0
    if op in _RULES:
        return _RULES[op](signature)
    out = signature.outputs[0] if signature.outputs else None
    if op in REDUCTIONS:
        first = signature.input(0)
        return None if first is None else product(first)
    if op in PER_ELEMENT or op in ONE_PER_ELEMENT:
        return None if out is None else product(out) * PER_ELEMENT.get(op, 1)
    return None


def is_counted(op_type: str) -> bool:
    """Whether there is a rule for the operator."""
    known = (MOVES, VIEWS, REDUCTIONS, PER_ELEMENT, ONE_PER_ELEMENT, _RULES)
    return any(op_type in names for names in known)


def _contraction(left: int, axis: int = -1) -> Callable[[Signature], Amount | None]:
    """A product whose contracted extent is ``axis`` of input ``left``."""

    def rule(signature: Signature) -> Amount | None:
        out, operand = signature.outputs[0], signature.input(left)
        if out is None or operand is None or not operand:
            return None
        return product(out) * operand[axis] * 2

    return rule


def _fused_matmul(signature: Signature) -> Amount | None:
    return _contraction(0, -2 if signature.ints("transA", 0) else -1)(signature)


def _gemm(signature: Signature) -> Amount | None:
    products = _contraction(0, 0 if signature.ints("transA", 0) else 1)(signature)
    out = signature.outputs[0]
    if products is None or out is None or signature.input(2) is None:
        return products
    return products + product(out)


def _convolution(weight: int, bias: int) -> Callable[[Signature], Amount | None]:
    def rule(signature: Signature) -> Amount | None:
        out, kernel = signature.outputs[0], signature.input(weight)
        if out is None or kernel is None:
            return None
        extra = sum(signature.input(index) is not None for index in range(bias, bias + 2))
        return product(out) * (product(kernel[1:]) * 2 + extra)

    return rule


def _conv_transpose(signature: Signature) -> Amount | None:
    x, kernel = signature.input(0), signature.input(1)
    return None if x is None or kernel is None else product(x) * product(kernel[1:]) * 2


def _einsum(signature: Signature) -> Amount | None:
    attr = signature.node.attributes.get("equation")
    if attr is None or "." in attr.as_string() or None in signature.inputs:
        return None
    extents: dict[str, Amount] = {}
    for term, dims in zip(attr.as_string().split("->")[0].split(","), signature.inputs, strict=False):
        extents.update(zip(term.strip(), dims or (), strict=False))
    return product(extents.values()) * 2 * max(len(signature.inputs) - 1, 1)


def _recurrent(signature: Signature) -> Amount | None:
    x, w, r = (signature.input(index) for index in range(3))
    if x is None or w is None or r is None or len(x) != 3:
        return None
    return x[0] * x[1] * (product(w) + product(r)) * 2


def _attention(signature: Signature) -> Amount | None:
    """Scores and weighted sum: every query meets every key, causal or not (that is what kernels do)."""
    q, k, out = signature.input(0), signature.input(1), signature.outputs[0]
    if q is None or k is None or out is None or len(k) < 2:
        return None
    return (product(q) + product(out)) * k[-2] * 2


def _packed_attention(signature: Signature) -> Amount | None:
    """com.microsoft.Attention: projects the input to q, k and v first."""
    x, w, out = signature.input(0), signature.input(1), signature.outputs[0]
    if x is None or w is None or out is None or len(x) != 3:
        return None
    return x[0] * x[1] * product(w) * 2 + product(out) * x[1] * 4


def _block_quantized(signature: Signature) -> Amount | None:
    x = signature.input(0)
    return None if x is None else product(x) * signature.ints("N", 0) * 2


def _pool(signature: Signature) -> Amount | None:
    out, window = signature.outputs[0], signature.node.attributes.get("kernel_shape")
    return None if out is None or window is None else product(out) * math.prod(window.as_ints())


def _any_attention(signature: Signature) -> Amount | None:
    packed = signature.node.domain == "com.microsoft" and signature.op_type in ("Attention", "QAttention")
    return _packed_attention(signature) if packed else _attention(signature)


_RULES: dict[str, Callable[[Signature], Amount | None]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul"), _contraction(0)),
    **dict.fromkeys(("MatMulIntegerToFloat",), _contraction(0)),
    "FusedMatMul": _fused_matmul,
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm"), _gemm),
    **dict.fromkeys(("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "DeformConv"), _convolution(1, 2)),
    "ConvInteger": _convolution(1, 4),
    "QLinearConv": _convolution(3, 8),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"), _any_attention),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _block_quantized),
    **dict.fromkeys(POOLS, _pool),
}


def shape_of(value: ir.Value | None, known: dict[str, Amount], bind: dict[str, int]) -> Dims | None:
    """The dims of a value with the given sizes put in; None when its rank or a dim is unknown.

    Args:
        known: cache of evaluated dims, by their text.
    """
    if value is None or value.shape is None:
        return None
    dims: list[Amount] = []
    for dim in value.shape:
        if isinstance(dim, ir.SymbolicDim):
            if dim.value is None:
                return None
            if dim.value not in known:
                known[dim.value] = dim.evaluate(bind)
            dims.append(known[dim.value])
        else:
            dims.append(dim)
    return tuple(dims)


def signature_key(signature: Signature) -> tuple[object, ...]:
    """What two nodes of equal cost share."""
    attributes = tuple(
        (name, str(attr.value))
        for name, attr in sorted(signature.node.attributes.items())
        if attr.type in _SMALL_ATTRIBUTES
    )
    shapes: Sequence[Dims | None] = (*signature.inputs, None, *signature.outputs)
    text = tuple(None if dims is None else tuple(map(str, dims)) for dims in shapes)
    return (signature.node.domain, signature.op_type, text, attributes)


_SMALL_ATTRIBUTES = (ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.STRING)
