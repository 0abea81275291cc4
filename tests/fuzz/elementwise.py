"""Moves that add one elementwise node or a few."""

from __future__ import annotations

import numpy as np
from onnx import helper

from . import draws
from .builder import FLOATS, Builder, Reject

UNARY = (
    *("Relu", "Neg", "Abs", "Sqrt", "Exp", "Tanh", "Sigmoid", "Erf", "Reciprocal", "Floor", "Ceil", "Sign"),
    *("Identity", "Softplus", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Not", "Round", "IsNaN"),
    *("Cos", "Sin"),
)
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")
COMPARE = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
TYPES = (np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.int8, np.bool_)


def is_float(array: np.ndarray) -> bool:
    return array.dtype in FLOATS


def is_number(array: np.ndarray) -> bool:
    return array.dtype in (*FLOATS, np.int64, np.int32)


def unary(b: Builder) -> None:
    result = b.op(b.rng.choice(UNARY), b.pick())
    if b.chance(0.2):  # twice the same: involutions and idempotent operators
        b.op(b.nodes[-1].op_type, result)


def binary(b: Builder) -> None:
    left = b.pick(is_number)
    array = b.value(left)
    right = b.pick(lambda other: other.dtype == array.dtype) if b.chance(0.5) else operand(b, array)
    op_type = b.rng.choice(BINARY if is_float(array) else ("Add", "Sub", "Mul", "Max", "Min"))
    if op_type == "Div" and array.dtype.kind != "f":
        raise Reject("integers are divided only by constants")
    b.op(op_type, *((left, right) if b.chance(0.7) else (right, left)))


def operand(b: Builder, array: np.ndarray) -> str:
    """A constant that may be neutral, may broadcast, and may broadcast the other side."""
    rank = array.ndim
    shapes = [(), (1,), array.shape, array.shape[-1:], (1,) * rank, (1,) * (rank + 1), array.shape[1:]]
    if rank >= 2:
        shapes += [(array.shape[0], *[1] * (rank - 1)), (*array.shape[:-1], 1)]
    if rank:
        shapes.append((3, *[1] * rank))
    shape = b.rng.choice(shapes)
    if b.chance(0.6):
        return b.constant(np.full(shape, b.rng.choice((0.0, 1.0, -0.0, 2.0, -1.0, 0.5)), array.dtype))
    return b.constant(draws.array(b.rng, shape, array.dtype, special=0.05))


def divide_integers(b: Builder) -> None:
    value = b.pick(lambda array: array.dtype in (np.int64, np.int32))
    divisor = b.constant(b.rng.choice((1, 2, 3)), b.value(value).dtype)
    b.op(b.rng.choice(("Div", "Mod")), value, divisor)


def compare(b: Builder) -> None:
    left = b.pick(is_number)
    array = b.value(left)
    right = b.pick(lambda other: other.dtype == array.dtype) if b.chance(0.5) else operand(b, array)
    b.op(b.rng.choice(COMPARE), left, right)


def logic(b: Builder) -> None:
    left = b.pick(lambda array: array.dtype == bool)
    array = b.value(left)
    shape = b.rng.choice([(), (1,), array.shape, (1,) * (array.ndim + 1)])
    right = b.constant(np.full(shape, b.chance(0.5))) if b.chance(0.5) else b.pick(lambda a: a.dtype == bool)
    b.op(b.rng.choice(("And", "Or", "Xor")), left, right)


def where(b: Builder) -> None:
    yes = b.pick()
    array = b.value(yes)
    no = operand(b, array) if b.chance(0.5) else b.pick(lambda a: a.dtype == array.dtype)
    no = b.mostly(no, yes)
    shapes = [(), array.shape, array.shape[-1:], (2, *[1] * array.ndim)]
    fixed = b.constant(np.full(b.rng.choice(shapes), b.chance(0.5)))
    condition = fixed if b.chance(0.3) else b.pick(lambda a: a.dtype == bool)
    b.op("Where", condition, *((yes, no) if b.chance(0.5) else (no, yes)))


def cast(b: Builder) -> None:
    value = b.pick()
    for _ in range(b.rng.choice((1, 1, 2, 3))):
        start = b.value(value).dtype
        kind = np.dtype(b.rng.choice((*TYPES, np.float32)))
        if kind.kind in "iu" and start.kind == "f" and not _fits(b.value(value), kind):
            raise Reject("out of range: what a cast gives then is not defined")
        if b.chance(0.15):
            value = b.op("CastLike", value, b.pick(lambda array, kind=kind: array.dtype == kind))
        else:
            value = b.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(kind))


def _fits(array: np.ndarray, kind: np.dtype) -> bool:
    limits = np.iinfo(kind)
    return bool(
        np.isfinite(array).all() and (np.abs(array) < limits.max).all() and (array >= limits.min).all()
    )


def again(b: Builder) -> None:
    """The same node once more, on its own or with one input changed: common subexpressions."""
    candidates = [node for node in b.nodes if node.op_type != "Constant" and len(node.output) == 1]
    if not candidates:
        raise Reject("nothing to repeat")
    node = helper.make_node("Identity", [], [])
    node.CopyFrom(b.rng.choice(candidates))
    node.output[0] = b.names.fresh("v")
    for attribute in node.attribute:
        if attribute.HasField("g"):
            raise Reject("subgraphs are not repeated: their names would be")
    b.append(node)


def clip(b: Builder) -> None:
    value = b.pick(is_float)
    dtype = b.value(value).dtype
    low, high = b.constant(b.rng.choice((0.0, -1.0)), dtype), b.constant(b.rng.choice((6.0, 1.0)), dtype)
    b.op("Clip", value, low, b.rng.choice((high, None)))


def variadic(b: Builder) -> None:
    """Sum, Max, Min and Mean of one to three tensors."""
    first = b.pick(is_float)
    dtype = b.value(first).dtype
    others = [b.pick(lambda a: a.dtype == dtype) for _ in range(b.rng.choice((0, 0, 1, 2)))]
    b.op(b.rng.choice(("Sum", "Max", "Min", "Mean")), first, *others)


MOVES = (
    *(unary, unary, binary, binary, binary, compare, logic, where, where, cast, cast, again, again),
    *(clip, variadic, divide_integers),
)
