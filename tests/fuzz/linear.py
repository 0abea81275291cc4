"""Moves that multiply, convolve, normalize, reduce and quantize."""

from __future__ import annotations

import numpy as np

from . import draws
from .builder import Builder, Reject
from .elementwise import is_float, operand


def weight(b: Builder, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """A weight; one that is there already when the shape fits."""
    shared = [name for name, array in b.constants.items() if array.shape == shape and array.dtype == dtype]
    if shared and b.chance(0.3):
        return b.rng.choice(shared)
    return b.constant(draws.array(b.rng, shape, dtype, special=0.03))


def matmul(b: Builder) -> None:
    """One to three products in a row, with biases or without."""
    value = b.pick(lambda array: is_float(array) and array.ndim > 0)
    for _ in range(b.rng.choice((1, 1, 2, 3))):
        array = b.value(value)
        width = b.rng.choice((1, 2, 4))
        lead = b.rng.choice(((), (), (), (1,), (2,)))
        value = b.op("MatMul", value, weight(b, (*lead, array.shape[-1], width), array.dtype))
        if b.chance(0.5):
            shape = b.rng.choice(((width,), (width,), (1, width), (1,), (), (1, 1, 1, width)))
            value = b.op("Add", *_either(b, value, weight(b, shape, array.dtype)))
        elif b.chance(0.2):
            value = b.op(b.rng.choice(("Mul", "Div", "Add")), value, operand(b, b.value(value)))


def two_values(b: Builder) -> None:
    """A product of two values that are not constant."""
    left = b.pick(lambda array: is_float(array) and array.ndim > 0)
    array = b.value(left)
    right = b.pick(
        lambda o: o.dtype == array.dtype and o.ndim > 0 and o.shape[max(o.ndim - 2, 0)] == array.shape[-1]
    )
    b.op("MatMul", left, right)


def gemm(b: Builder) -> None:
    value = b.pick(lambda array: is_float(array) and array.ndim == 2)
    for _ in range(b.rng.choice((1, 2))):
        array = b.value(value)
        turned, flipped = b.mostly(0, 1), b.rng.choice((0, 1))
        rows, depth = array.shape[::-1] if turned else array.shape
        width = b.rng.choice((1, 3, 4))
        attributes = {"transA": turned, "transB": flipped}
        if b.chance(0.3):
            attributes["alpha"] = b.rng.choice((2.0, 0.5, 0.0))
        given = [value, weight(b, (width, depth) if flipped else (depth, width), array.dtype)]
        if b.chance(0.7):
            given.append(weight(b, b.rng.choice(((width,), (1, width), (rows, 1), (), (1,))), array.dtype))
            if b.chance(0.3):
                attributes["beta"] = b.rng.choice((2.0, 0.0, -1.0))
        value = b.op("Gemm", *given, **attributes)
    if b.chance(0.5):
        b.op(b.rng.choice(("Relu", "Tanh", "Sigmoid", "LeakyRelu")), value)


def conv(b: Builder) -> None:
    """A convolution of one or two dims, then what may be folded into it."""
    rank = b.rng.choice((1, 2, 2))
    channels, dtype = b.rng.choice((1, 2, 4)), np.float32
    value = image(b, channels, rank)
    group = b.rng.choice((1, 1, channels))
    filters = b.rng.choice((channels, 2 * channels))
    kernel = tuple(b.rng.choice((1, 1, 3)) for _ in range(rank))
    given = [value, weight(b, (filters, channels // group, *kernel), np.dtype(dtype))]
    if b.chance(0.5):
        given.append(weight(b, (filters,), np.dtype(dtype)))
    attributes: dict[str, object] = {"group": group} if group != 1 else {}
    if b.chance(0.6):
        attributes["pads"] = [size // 2 for size in kernel] * 2
    elif b.chance(0.3):
        attributes["auto_pad"] = b.rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    if b.chance(0.2):
        attributes["strides"] = [2] * rank
    value = b.op("Conv", *given, **attributes)
    for tail in b.rng.sample((batch_norm, residual, scaled, activation), b.rng.randint(0, 4)):
        value = tail(b, value)


def image(b: Builder, channels: int, rank: int) -> str:
    found = b.pool(
        lambda a: a.dtype == np.float32 and a.ndim == rank + 2 and a.shape[1] == channels and 0 not in a.shape
    )
    if found and b.chance(0.5):
        return b.rng.choice(found)
    return b.input(
        draws.array(b.rng, (b.rng.choice((1, 2)), channels, *[5, 4][:rank]), np.float32, special=0.05)
    )


def batch_norm(b: Builder, value: str) -> str:
    array = b.value(value)
    size = (array.shape[1],)
    scale, shift, mean = (weight(b, size, array.dtype) for _ in range(3))
    variance = b.constant(
        np.abs(draws.array(b.rng, size, array.dtype)) + array.dtype.type(b.mostly(0.5, 0.0))
    )
    return b.op("BatchNormalization", value, scale, shift, mean, variance, epsilon=b.mostly(1e-5, 0.1))


def residual(b: Builder, value: str) -> str:
    shape = b.value(value).shape
    other = b.pick(lambda a: a.dtype == np.float32 and a.shape == shape)
    return b.op("Add", *_either(b, value, other))


def scaled(b: Builder, value: str) -> str:
    array = b.value(value)
    shapes = (
        (1, array.shape[1], *[1] * (array.ndim - 2)),
        (array.shape[1], *[1] * (array.ndim - 2)),
        (),
        (1,),
    )
    return b.op(b.rng.choice(("Add", "Mul")), value, weight(b, b.rng.choice(shapes), array.dtype))


def activation(b: Builder, value: str) -> str:
    kind = b.rng.choice(("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish"))
    if kind == "Clip":
        bounds = [b.constant(number, np.float32) for number in (0.0, b.mostly(6.0, -1.0))]
        return b.op("Clip", value, *bounds)
    return b.op(kind, value)


def loose_batch_norm(b: Builder) -> None:
    batch_norm(b, b.pick(lambda a: is_float(a) and a.ndim >= 2))


def pool(b: Builder) -> None:
    value = b.pick(lambda a: a.dtype == np.float32 and a.ndim >= 3)
    kind = b.rng.choice(("GlobalAveragePool", "MaxPool", "AveragePool"))
    kernel = {} if kind.startswith("Global") else {"kernel_shape": [2] * (b.value(value).ndim - 2)}
    b.op(kind, value, **kernel)


def reduce(b: Builder) -> None:
    value = b.pick(is_float)
    rank = b.value(value).ndim
    kind = b.rng.choice(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceProd"))
    axes = b.rng.sample(range(-rank, rank), min(rank, 1))
    attributes = {"keepdims": b.rng.choice((0, 1))}
    if b.opset >= 18 or kind == "ReduceSum":
        given = [b.constant(np.array(axes, np.int64))] if b.chance(0.9) else []
        b.op(kind, value, *given, **attributes)
    else:
        b.op(kind, value, **attributes, **({"axes": axes} if axes else {}))


def softmax(b: Builder) -> None:
    value = b.pick(lambda a: is_float(a) and a.ndim > 0)
    b.op(b.rng.choice(("Softmax", "LogSoftmax")), value, axis=b.mostly(-1, 0, 1))


def layer_normalization(b: Builder) -> None:
    value = b.pick(lambda a: is_float(a) and a.ndim > 0)
    array = b.value(value)
    if b.opset < 17:
        raise Reject("not in this operator set")
    size = (array.shape[-1],)
    given = [value, weight(b, size, array.dtype)]
    if b.chance(0.7):
        given.append(weight(b, size, array.dtype))
    b.op("LayerNormalization", *given, axis=-1, epsilon=b.mostly(1e-5, 1e-12, 1.0))


def quantize(b: Builder) -> None:
    """A QuantizeLinear and DequantizeLinear pair, per tensor or per axis, or with unequal parameters."""
    value = b.pick(lambda a: a.dtype == np.float32 and a.ndim > 0)
    size, axis = b.value(value).shape[-1], b.value(value).ndim - 1
    kind = b.rng.choice((np.uint8, np.int8))
    per_axis = b.chance(0.4)
    scale = np.full((size,) if per_axis else (), 0.0625, np.float32)
    zero = np.full(scale.shape, b.rng.choice((0, 3)), kind)
    extra = {"axis": axis} if per_axis else {}
    middle = b.op("QuantizeLinear", value, b.constant(scale), b.constant(zero), **extra)
    other = b.constant(scale * np.float32(b.mostly(1.0, 2.0)))
    value = b.op("DequantizeLinear", middle, other, b.constant(zero), **extra)
    if b.chance(0.3):
        b.op("QuantizeLinear", value, b.constant(scale), b.constant(zero), **extra)


def dynamic_quantize(b: Builder) -> None:
    """An int8 product on activations that are quantized at run time."""
    value = b.pick(lambda a: a.dtype == np.float32 and a.ndim >= 2 and np.isfinite(a).all() and a.size > 0)
    depth, width = b.value(value).shape[-1], b.rng.choice((1, 4))
    quantized, scale, zero = b.ops("DynamicQuantizeLinear", [value], 3)
    rng = np.random.default_rng(b.rng.getrandbits(32))
    matrix = b.constant(rng.integers(-127, 128, (depth, width)).astype(np.int8))
    product = b.op("MatMulInteger", quantized, matrix, zero)
    step = b.op("Mul", scale, b.constant(np.float32(0.0625)))
    result = b.op("Mul", b.op("Cast", product, to=1), step)
    if b.chance(0.5):
        b.op("Add", result, weight(b, (width,), np.dtype(np.float32)))


def weight_only(b: Builder) -> None:
    """A product with a weight that is stored in 8 bits."""
    value = b.pick(lambda a: a.dtype == np.float32 and a.ndim >= 2)
    depth, width = b.value(value).shape[-1], 4
    rng = np.random.default_rng(b.rng.getrandbits(32))
    matrix = b.constant(rng.integers(-127, 128, (depth, width)).astype(np.int8))
    per_axis = b.chance(0.5)
    scale = b.constant(np.full((width,) if per_axis else (), 0.0625, np.float32))
    b.op("MatMul", value, b.op("DequantizeLinear", matrix, scale, **({"axis": 1} if per_axis else {})))


def _either(b: Builder, left: str, right: str) -> tuple[str, str]:
    return (left, right) if b.chance(0.7) else (right, left)


MOVES = (
    *(matmul, matmul, two_values, gemm, conv, conv, loose_batch_norm, pool, reduce, softmax),
    *(layer_normalization, quantize, dynamic_quantize, weight_only),
)
