"""What exporters write for norms, activations and projections, each piece now and then a little off.

``b.mostly(usual, *others)`` is what makes near misses: a constant, an axis or an operand that a pattern must
not take for the real thing.
"""

from __future__ import annotations

import numpy as np

from . import draws
from .builder import Builder, Reject
from .elementwise import is_float
from .linear import weight

F32 = np.dtype(np.float32)


def scalar(b: Builder, number: float, dtype: np.dtype = F32) -> str:
    shape = b.mostly((), (1,), (1, 1))
    return b.constant(np.full(shape, number, dtype))


def two(b: Builder, op_type: str, left: str, right: str) -> str:
    """A commutative node with its operands in either order."""
    return b.op(op_type, *((left, right) if b.chance(0.7) else (right, left)))


def activations(b: Builder, width: int | None = None) -> str:
    """A float value [..., width] with something in it: one that is there, or a new input."""

    def fits(array: np.ndarray) -> bool:
        return is_float(array) and array.ndim >= 1 and (width is None or array.shape[-1] == width)

    found = b.pool(lambda a: fits(a) and a.size > 0)
    if found and b.chance(0.6):
        return b.rng.choice(found)
    shape = (*draws.shape(b.rng, b.rng.choice((1, 2, 2))), width or 4)
    dtype = b.mostly(np.float32, np.float64, np.float16)
    return b.input(draws.array(b.rng, shape, dtype, special=0.05))


def mean(b: Builder, value: str) -> str:
    axes, keep = b.mostly([-1], [0], [-2], [-1, -2]), b.mostly(1, 0)
    if b.opset < 18:
        return b.op("ReduceMean", value, axes=axes, keepdims=keep)
    return b.op("ReduceMean", value, b.constant(np.array(axes, np.int64)), keepdims=keep)


def inverse_root(b: Builder, value: str, variance: str) -> str:
    """value / sqrt(variance + epsilon) in one of its spellings."""
    dtype = b.value(value).dtype
    shifted = two(b, "Add", variance, scalar(b, b.mostly(1e-5, 1e-12, 0.1), dtype))
    kind = b.rng.choice(("div", "reciprocal", "one over", "pow"))
    if kind == "pow":
        return two(b, "Mul", value, b.op("Pow", shifted, scalar(b, b.mostly(-0.5, 0.5, -1.0), dtype)))
    root = b.op("Sqrt", shifted)
    if kind == "div":
        return b.op("Div", value, root)
    inverse = b.op("Reciprocal", root) if kind == "reciprocal" else b.op("Div", scalar(b, 1.0, dtype), root)
    return two(b, "Mul", value, inverse)


def square(b: Builder, value: str, dtype: np.dtype) -> str:
    if b.chance(0.5):
        return b.op("Pow", value, scalar(b, b.mostly(2.0, 3.0), dtype))
    return b.op("Mul", value, b.mostly(value, b.pick(lambda a: a.dtype == dtype)))


def affine(b: Builder, value: str, *, shift: bool) -> str:
    array = b.value(value)
    size = array.shape[-1]
    shapes = ((1, size), (1,), (), (1, 1, 1, 1, size))
    value = two(b, "Mul", value, weight(b, b.mostly((size,), *shapes), array.dtype))
    if shift and b.chance(0.8):
        value = two(b, "Add", value, weight(b, b.mostly((size,), *shapes), array.dtype))
    return value


def layer_norm(b: Builder, value: str | None = None) -> str:
    value = value or activations(b)
    dtype = b.value(value).dtype
    centred = b.op("Sub", value, mean(b, value))
    result = inverse_root(b, centred, mean(b, square(b, b.mostly(centred, value), dtype)))
    return affine(b, result, shift=True)


def rms_norm(b: Builder, value: str | None = None) -> str:
    value = value or activations(b)
    dtype = b.value(value).dtype
    result = inverse_root(b, value, mean(b, square(b, value, dtype)))
    return affine(b, result, shift=False)


def ready_norm(b: Builder, value: str) -> str:
    """LayerNormalization, or RMSNormalization where there is one."""
    array = b.value(value)
    if b.opset < 17:
        raise Reject("not in this operator set")
    gamma = weight(b, array.shape[-1:], array.dtype)
    if b.opset >= 23 and b.chance(0.4):
        return b.op("RMSNormalization", value, gamma, axis=-1, epsilon=1e-5)
    return b.op("LayerNormalization", value, gamma, weight(b, array.shape[-1:], array.dtype), axis=-1)


def skip_norm(b: Builder) -> str:
    """Residual additions, with a bias or without, before a norm; the sum is read again."""
    value = activations(b)
    array = b.value(value)
    if b.chance(0.4):
        value = two(b, "Add", value, weight(b, b.mostly(array.shape[-1:], (1,), ()), array.dtype))
    other = b.pick(
        lambda a: a.dtype == array.dtype and 0 < a.ndim <= array.ndim and a.shape[-1] == array.shape[-1]
    )
    total = two(b, "Add", value, other)
    result = b.rng.choice((layer_norm, rms_norm, ready_norm, ready_norm))(b, total)
    return two(b, "Add", total, result) if b.chance(0.4) else result


def gelu(b: Builder, value: str | None = None) -> str:
    value = value or activations(b)
    dtype = b.value(value).dtype
    if b.opset >= 20 and b.chance(0.2):
        return b.op("Gelu", value, approximate=b.rng.choice(("none", "tanh")))
    kind = b.rng.choice(("erf", "erf", "tanh", "quick"))
    if kind == "quick":
        return two(
            b,
            "Mul",
            value,
            b.op("Sigmoid", two(b, "Mul", value, scalar(b, b.mostly(1.702, 1.0, 2.0), dtype))),
        )
    if kind == "erf":
        root = b.mostly(2**0.5, 1.4, 2.0)
        inner = b.op("Div", value, scalar(b, root, dtype))
        if b.chance(0.4):
            inner = two(b, "Mul", value, scalar(b, 1 / root, dtype))
        gate = b.op("Erf", inner)
    else:
        cube = b.op("Pow", value, scalar(b, b.mostly(3.0, 2.0), dtype))
        inner = two(b, "Add", value, two(b, "Mul", cube, scalar(b, b.mostly(0.044715, 0.05), dtype)))
        gate = b.op("Tanh", two(b, "Mul", inner, scalar(b, b.mostly(0.7978845608, 0.8), dtype)))
    gate = two(b, "Add", gate, scalar(b, b.mostly(1.0, 2.0), dtype))
    half = scalar(b, b.mostly(0.5, 0.25), dtype)
    if b.chance(0.5):
        return two(b, "Mul", two(b, "Mul", value, gate), half)
    return two(b, "Mul", two(b, "Mul", value, half), gate)


def bias_gelu(b: Builder) -> str:
    value = activations(b)
    array = b.value(value)
    shapes = ((1,), (), array.shape, (3, *[1] * array.ndim))
    return gelu(b, two(b, "Add", value, weight(b, b.mostly(array.shape[-1:], *shapes), array.dtype)))


def silu(b: Builder, value: str | None = None) -> str:
    value = value or activations(b)
    dtype = b.value(value).dtype
    if b.chance(0.8):
        return two(b, "Mul", value, b.op("Sigmoid", b.mostly(value, b.pick(lambda a: a.dtype == dtype))))
    gate = two(
        b,
        "Add",
        b.op("Tanh", b.op("Mul", value, scalar(b, b.mostly(0.5, 1.0), dtype))),
        scalar(b, 1.0, dtype),
    )
    return two(b, "Mul", two(b, "Mul", gate, value), scalar(b, b.mostly(0.5, 1.0), dtype))


def swiglu(b: Builder) -> str:
    value = activations(b)
    array = b.value(value)
    matrices = [weight(b, (array.shape[-1], width), array.dtype) for width in (4, b.mostly(4, 1))]
    gate, up = (b.op("MatMul", value, matrix) for matrix in matrices)
    return two(b, "Mul", silu(b, gate), up)


def projections(b: Builder) -> str:
    """Two to four products of one input, as queries, keys and values are."""
    value = activations(b)
    array = b.value(value)
    results = []
    flipped, gemm = b.rng.choice((0, 1)), array.ndim == 2 and b.chance(0.5)
    for _ in range(b.rng.choice((2, 3, 3, 4))):
        width = b.mostly(4, 2)
        if gemm:
            shape = (width, array.shape[-1]) if flipped else (array.shape[-1], width)
            given = [value, weight(b, shape, array.dtype)]
            given += [weight(b, (width,), array.dtype)] if b.chance(0.7) else []
            results.append(
                b.op("Gemm", *given, transB=flipped, **b.mostly({}, {"alpha": 2.0}, {"beta": 0.5}))
            )
            continue
        result = b.op("MatMul", value, weight(b, (array.shape[-1], width), array.dtype))
        if b.chance(0.6):
            result = two(b, "Add", result, weight(b, b.mostly((width,), (1,), (3, 1, 1, width)), array.dtype))
        results.append(result)
    return results[-1]


def feed_forward(b: Builder) -> str:
    """Linear, activation, linear."""
    value = activations(b)
    array = b.value(value)
    for width in (6, array.shape[-1]):
        value = b.op("MatMul", value, weight(b, (b.value(value).shape[-1], width), array.dtype))
        value = two(b, "Add", value, weight(b, b.mostly((width,), (1, width), ()), array.dtype))
        value = b.rng.choice((gelu, silu, lambda b, v: b.op("Relu", v), lambda b, v: v))(b, value)
    return value


MOVES = (
    *(layer_norm, rms_norm, skip_norm, skip_norm, gelu, bias_gelu, silu, swiglu, projections, feed_forward),
)
