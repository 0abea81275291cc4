"""Moves that rearrange: transposes, reshapes, slices, concatenations, gathers, arithmetic on shapes."""

from __future__ import annotations

import math

import numpy as np

from . import draws
from .builder import Builder, Reject

_FAR = 2**31 - 1  # "to the end", as exporters write it; or 2**63 - 1


def transpose(b: Builder) -> None:
    value = b.pick()
    for _ in range(b.rng.choice((1, 1, 2, 3))):
        rank = b.value(value).ndim
        perm = list(range(rank))
        b.rng.shuffle(perm)
        value = b.op("Transpose", value, **({} if b.chance(0.15) else {"perm": perm}))


def transpose_back(b: Builder) -> None:
    value = b.pick(lambda array: array.ndim >= 2)
    perm = list(range(b.value(value).ndim))
    b.rng.shuffle(perm)
    back = [perm.index(axis) for axis in range(len(perm))]
    b.op("Transpose", b.op("Transpose", value, perm=perm), perm=b.mostly(back, perm))


def reshape(b: Builder) -> None:
    value = b.pick()
    for _ in range(b.rng.choice((1, 1, 2))):
        value = b.op("Reshape", value, _wanted(b, b.value(value)), **_allowzero(b))


def _allowzero(b: Builder) -> dict[str, int]:
    return {"allowzero": b.rng.choice((0, 1))} if b.chance(0.15) else {}


def _wanted(b: Builder, array: np.ndarray) -> str:
    """A shape for a Reshape: numbers, with 0 and -1 where they may stand, or computed at run time."""
    shape = regrouped(b, array.shape)
    literal = [
        0 if i < array.ndim and array.shape[i] == d and b.chance(0.5) else d for i, d in enumerate(shape)
    ]
    if literal and b.chance(0.5) and 0 not in shape:
        literal[b.rng.randrange(len(literal))] = -1
    if b.chance(0.3):
        return computed_shape(b, shape)
    return b.constant(np.array(literal, np.int64))


def regrouped(b: Builder, shape: tuple[int, ...]) -> list[int]:
    """Another shape of as many elements."""
    dims = list(shape)
    for _ in range(b.rng.choice((1, 2, 3))):
        kind = b.rng.choice(("merge", "split", "one", "drop"))
        if kind == "merge" and len(dims) >= 2:
            at = b.rng.randrange(len(dims) - 1)
            dims[at : at + 2] = [dims[at] * dims[at + 1]]
        elif kind == "split" and dims:
            at = b.rng.randrange(len(dims))
            for factor in (2, 3):
                if dims[at] and dims[at] % factor == 0:
                    dims[at : at + 1] = b.rng.choice(
                        ([factor, dims[at] // factor], [dims[at] // factor, factor])
                    )
                    break
        elif kind == "one" and len(dims) < 6:
            dims.insert(b.rng.randint(0, len(dims)), 1)
        elif 1 in dims:
            dims.remove(1)
    return dims


def computed_shape(b: Builder, wanted: list[int]) -> str:
    """The shape put together at run time, with dims taken from values that have them."""
    parts = []
    for dim in wanted:
        sources = [name for name in b.pool(lambda a, dim=dim: dim in a.shape) if name not in b.constants]
        if sources and b.chance(0.7):
            source = b.rng.choice(sources)
            axis = b.value(source).shape.index(dim)
            scalar = b.op("Gather", b.op("Shape", source), b.constant(np.array(axis, np.int64)))
            parts.append(b.op("Unsqueeze", scalar, b.constant(np.array([0], np.int64))))
        else:
            parts.append(b.constant(np.array([dim], np.int64)))
    return b.op("Concat", *parts, axis=0) if parts else b.constant(np.zeros(0, np.int64))


def around_transpose(b: Builder) -> None:
    """Reshape, Transpose, Reshape: merges axes, permutes them, splits them as they were (or nearly)."""
    value = b.pick(lambda array: array.ndim >= 3)
    shape = b.value(value).shape
    at = b.rng.randrange(len(shape) - 1)
    merged = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
    perm = list(range(len(merged)))
    b.rng.shuffle(perm)
    turned = b.op("Transpose", b.op("Reshape", value, b.constant(np.array(merged, np.int64))), perm=perm)
    groups = [[axis] if axis < at else [axis + 1] if axis > at else [at, at + 1] for axis in perm]
    back = [shape[axis] for group in groups for axis in b.mostly(group, group[::-1])]
    b.op("Reshape", turned, b.constant(np.array(back, np.int64)))


def squeeze(b: Builder) -> None:
    value = b.pick()
    for _ in range(b.rng.choice((1, 2, 2))):
        array = b.value(value)
        ones = [axis for axis, dim in enumerate(array.shape) if dim == 1]
        if ones and b.chance(0.5):
            axes = b.rng.sample(ones, b.rng.randint(1, len(ones)))
            axes = [axis - array.ndim if b.chance(0.3) else axis for axis in axes]
            value = b.op("Squeeze", value, *([b.constant(np.array(axes, np.int64))] if b.chance(0.9) else []))
        else:
            count = b.rng.choice((1, 1, 2))
            rank = array.ndim + count
            axes = b.rng.sample(range(rank), count)
            axes = [axis - rank if b.chance(0.3) else axis for axis in axes]
            value = b.op("Unsqueeze", value, b.constant(np.array(axes, np.int64)))


def flatten(b: Builder) -> None:
    value = b.pick()
    rank = b.value(value).ndim
    b.op("Flatten", value, axis=b.rng.randint(-rank, rank))


def expand(b: Builder) -> None:
    value = b.pick()
    shape = [b.rng.choice((dim, 1)) if dim != 1 else b.rng.choice((1, 1, 3)) for dim in b.value(value).shape]
    shape = shape[b.rng.choice((0, 0, 1)) :] if b.chance(0.7) else [2, *shape]
    wanted = computed_shape(b, shape) if b.chance(0.4) else b.constant(np.array(shape, np.int64))
    b.op("Expand", value, wanted)


def tile(b: Builder) -> None:
    value = b.pick()
    b.op(
        "Tile", value, b.constant(np.array([b.rng.choice((1, 1, 2)) for _ in b.value(value).shape], np.int64))
    )


def slice_(b: Builder) -> None:
    value = b.pick(lambda array: array.ndim > 0)
    shape = b.value(value).shape
    axes = b.rng.sample(range(len(shape)), b.rng.choice((1, 1, min(2, len(shape)))))
    starts = [b.rng.choice((0, 0, 0, 1, -1, -shape[axis])) for axis in axes]
    ends = [b.rng.choice((2**63 - 1, _FAR, shape[axis], shape[axis] + 3, -1, 1, 0)) for axis in axes]
    named = [axis - len(shape) if b.chance(0.3) else axis for axis in axes]
    with_axes = b.chance(0.8) or axes != list(range(len(axes)))
    steps = [b.rng.choice((1, 1, 1, 2, -1)) for _ in axes] if with_axes and b.chance(0.6) else None
    if steps is not None:
        # Backwards to a far end ONNX Runtime's kernel and its own shape inference are of two minds.
        ends = [-end if step < 0 and end >= _FAR else end for step, end in zip(steps, ends, strict=True)]
    numbers = [starts, ends, *([named] if with_axes else []), *([steps] if steps is not None else [])]
    b.op("Slice", value, *(b.constant(np.array(each, np.int64)) for each in numbers))


def pad(b: Builder) -> None:
    value = b.pick(lambda array: array.dtype.kind == "f")
    rank = b.value(value).ndim
    pads = [b.rng.choice((0, 0, 0, 1, -1)) for _ in range(2 * rank)] if b.chance(0.6) else [0] * 2 * rank
    b.op("Pad", value, b.constant(np.array(pads, np.int64)), mode=b.rng.choice(("constant", "edge")))


def concat(b: Builder) -> None:
    value = b.pick(lambda array: array.ndim > 0)
    array = b.value(value)
    axis = b.rng.randrange(array.ndim)

    def fits(other: np.ndarray) -> bool:
        rest = [d for i, d in enumerate(other.shape) if i != axis]
        return other.dtype == array.dtype and rest == [d for i, d in enumerate(array.shape) if i != axis]

    parts = [value, *(b.pick(fits) for _ in range(b.rng.choice((0, 1, 1, 2))))]
    if b.chance(0.2):
        empty = [*array.shape[:axis], 0, *array.shape[axis + 1 :]]
        if any(isinstance(dim, str) for dims in b.inputs.values() for dim in dims):
            nothing = (b.constant(np.array([number], np.int64)) for number in (0, 0, axis))
            parts.append(b.op("Slice", value, *nothing))  # a constant would not fit at other sizes
        else:
            parts.append(b.constant(np.zeros(empty, array.dtype)))
    joined = b.op("Concat", *parts, axis=b.rng.choice((axis, axis - array.ndim)))
    if b.chance(0.4):
        sizes = [b.value(part).shape[axis] for part in parts]
        if b.chance(0.3):
            b.rng.shuffle(sizes)
        b.ops("Split", [joined, b.constant(np.array(sizes, np.int64))], len(sizes), axis=axis)


def split(b: Builder) -> None:
    value = b.pick(lambda array: array.ndim > 0 and max(array.shape) > 1)
    array = b.value(value)
    axis = b.rng.randrange(array.ndim)
    size = array.shape[axis]
    sizes = b.rng.choice(([size], [1, size - 1], [size // 2, size - size // 2], [0, size]))
    if min(sizes) < 0:
        raise Reject("nothing to split")
    if b.chance(0.3) and b.opset >= 18:
        parts = b.ops("Split", [value], len(sizes), axis=axis, num_outputs=len(sizes))
    else:
        parts = b.ops("Split", [value, b.constant(np.array(sizes, np.int64))], len(sizes), axis=axis)
    if b.chance(0.5):
        parts = parts if b.chance(0.8) else parts[::-1]
        b.op("Concat", *parts, axis=b.mostly(axis, 0, -1))


def gather(b: Builder) -> None:
    value = b.pick(lambda array: array.ndim > 0 and 0 not in array.shape)
    shape = b.value(value).shape
    axis = b.rng.randrange(len(shape))
    size = shape[axis]
    index = b.rng.choice(
        (np.arange(size), np.array(0), np.array([-1]), np.arange(size)[::-1], np.array([[0], [size - 1]]))
    )
    if b.chance(0.25):
        end = b.op("Gather", b.op("Shape", value), b.constant(np.array(axis, np.int64)))
        counted = b.op("Range", b.constant(0, np.int64), end, b.constant(1, np.int64))
        b.op("Gather", value, counted, axis=b.mostly(axis, 0))
    else:
        b.op("Gather", value, b.constant(index.astype(np.int64)), axis=axis)


def gather_nd(b: Builder) -> None:
    """GatherND with a constant grid, the way masks are built by exporters."""
    value = b.pick(lambda array: array.ndim > 0 and 0 < array.size <= 64)
    shape = b.value(value).shape
    used = b.rng.randint(1, len(shape))
    axes = [np.arange(shape[axis]) for axis in range(used)]
    if b.chance(0.3):
        axes[-1] = axes[-1][:: b.rng.choice((-1, 2))]
    grid = np.stack(np.meshgrid(*axes, indexing=b.mostly("ij", "xy")), axis=-1)
    b.op("GatherND", value, b.constant(grid.astype(np.int64)))


def shape_arithmetic(b: Builder) -> None:
    value = b.op("Shape", b.pick())
    if b.chance(0.3):
        value = b.op("Gather", value, b.constant(np.array(b.rng.choice((0, -1, 1)), np.int64)))
    for _ in range(b.rng.choice((1, 2, 3))):
        other = b.constant(np.array(b.rng.choice((0, 1, 2, 3)), np.int64))
        kind = b.rng.choice(("Add", "Mul", "Sub", "Div", "Max", "Min", "Cast", "Equal"))
        if kind == "Cast":
            value = b.op("Cast", b.op("Cast", value, to=b.rng.choice((6, 1))), to=7)
        elif kind == "Div":
            value = b.op("Div", value, b.constant(np.array(b.rng.choice((1, 2)), np.int64)))
        elif kind == "Equal":
            value = b.op("Where", b.op("Equal", value, other), other, value)
        else:
            value = b.op(kind, value, other)


def fill(b: Builder) -> None:
    """ConstantOfShape and Range: tensors without data."""
    shape = computed_shape(b, list(draws.shape(b.rng, b.rng.choice((0, 1, 2)))))
    if b.chance(0.6):
        number = np.array([b.rng.choice((0.0, 1.0, -1.0, np.inf, -np.inf))], np.float32)
        from onnx import numpy_helper

        b.op(
            "ConstantOfShape", shape, **({"value": numpy_helper.from_array(number)} if b.chance(0.8) else {})
        )
        return
    count = b.op("ReduceProd", shape, keepdims=0) if math.prod(b.value(shape).shape) else shape
    b.op("Range", b.constant(0, np.int64), count, b.constant(1, np.int64))


MOVES = (
    *(transpose, transpose, transpose_back, reshape, reshape, around_transpose, squeeze, squeeze, flatten),
    *(expand, tile, slice_, slice_, pad, concat, concat, split, gather, gather_nd, shape_arithmetic, fill),
)
