"""The common core of layer and RMS normalisation, and the scale and shift behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from optc import match, newnode
from optc.newnode import Operand
from optc.rewrite import NearMiss

from ._constants import is_float


@dataclass(frozen=True)
class Core:
    """``output = d / sqrt(mean(d^2) + epsilon)``; gamma is set when it was multiplied in before ``d``."""

    d: ir.Value
    output: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[ir.Node, ...]
    gamma: ir.Value | None = None


@dataclass
class Affine:
    """The scale and shift behind a normalisation, and the value that they lead to."""

    output: ir.Value
    gamma: Operand | None = None
    beta: Operand | None = None
    nodes: list[ir.Node] = field(default_factory=list)


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction that keeps them, from the last (-1) to the first; None when unknown."""
    if not match.attr_int(node, "keepdims", 1):
        return None
    axes = match.attr_ints(node, "axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = match.constant(node.inputs[1])
        axes = None if array is None else tuple(int(axis) for axis in array.reshape(-1))
    rank = match.rank(node.inputs[0])
    if not axes or (rank is None and any(axis >= 0 for axis in axes)):
        return None
    return tuple(sorted((axis if axis < 0 else axis - (rank or 0) for axis in axes), reverse=True))


def suffix_axis(axes: Sequence[int]) -> int:
    """The first of the normalised axes, which must be the last ones of the tensor."""
    if tuple(axes) != tuple(range(-1, -1 - len(axes), -1)):
        raise NearMiss(f"it normalises axes {sorted(axes)}, which are not the last ones")
    return axes[-1]


def find_core(mean: ir.Node) -> Core | None:
    """The core around the mean of squares ``mean``."""
    square, d = squared(mean.inputs[0])
    axes = reduced_axes(mean)
    if square is None or d is None or axes is None or not is_float(d.dtype):
        return None
    for root, inverse in _roots(mean.outputs[0]):
        add = match.producer(root.inputs[0], "Add")
        epsilon = None if add is None else _other_scalar(add, mean.outputs[0])
        for nodes, output, gamma in _divisions(d, root, inverse):
            if add is None or epsilon is None:
                raise NearMiss("no constant epsilon is added to the mean of squares")
            if epsilon <= 0.0:
                raise NearMiss(f"its epsilon {epsilon} is not positive")
            inside = (square, mean, add, root, *nodes)
            return Core(d, output, axes, epsilon, inside, gamma)
    return None


def squared(value: ir.Value | None) -> tuple[ir.Node | None, ir.Value | None]:
    """The node that squares something, and what it squares."""
    node = match.producer(value, "Pow", "Mul")
    if node is None:
        return None, None
    twice = node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else match.scalar(node.inputs[1]) == 2.0
    return (node, node.inputs[0]) if twice else (None, None)


def centring(d: ir.Value | None) -> ir.Node | None:
    """The Sub that takes a mean from the very value that it is the mean of."""
    sub = match.producer(d, "Sub")
    mean = None if sub is None else match.producer(sub.inputs[1], "ReduceMean")
    return sub if sub is not None and mean is not None and mean.inputs[0] is sub.inputs[0] else None


def _other_scalar(node: ir.Node, value: ir.Value) -> float | None:
    return next((match.scalar(other) for one, other in match.operands(node) if one is value), None)


def _roots(variance: ir.Value) -> Iterator[tuple[ir.Node, bool]]:
    """Square roots of the variance (plus something), and whether they are inverse ones."""
    sums = [use.node.outputs[0] for use in variance.uses() if match.is_op(use.node, "Add")]
    for value in [*sums, variance]:
        for node in (use.node for use in value.uses()):
            exponent = match.scalar(node.inputs[1]) if match.is_op(node, "Pow") else None
            if match.is_op(node, "Sqrt") or exponent == 0.5:
                yield node, False
            elif exponent == -0.5:
                yield node, True


def _divisions(
    d: ir.Value, root: ir.Node, inverse: bool
) -> Iterator[tuple[list[ir.Node], ir.Value, ir.Value | None]]:
    """Ways in which ``d`` is divided by the root: directly, or times its inverse, scaled or not."""
    value = root.outputs[0]
    if inverse:
        yield from _products(d, [], value)
        return
    for node in (use.node for use in value.uses()):
        if match.is_op(node, "Div") and node.inputs[1] is value:
            if node.inputs[0] is d:
                yield [node], node.outputs[0], None
            elif match.scalar(node.inputs[0]) == 1.0:
                yield from _products(d, [node], node.outputs[0])
        elif match.is_op(node, "Reciprocal"):
            yield from _products(d, [node], node.outputs[0])
        elif match.is_op(node, "Add") and _divides(d, node.outputs[0]):
            raise NearMiss("its epsilon is added outside of the square root")


def _divides(d: ir.Value, value: ir.Value) -> bool:
    return any(match.is_op(use.node, "Div") and use.node.inputs[0] is d for use in value.uses())


def _products(
    d: ir.Value, nodes: list[ir.Node], inverse: ir.Value
) -> Iterator[tuple[list[ir.Node], ir.Value, ir.Value | None]]:
    for node in (use.node for use in inverse.uses()):
        if not match.is_op(node, "Mul"):
            continue
        other = node.inputs[1] if node.inputs[0] is inverse else node.inputs[0]
        if other is d:
            yield [*nodes, node], node.outputs[0], None
            continue
        scaled = match.only_reader(node.outputs[0])
        if scaled is not None and match.is_op(scaled, "Mul") and d in scaled.inputs:
            yield [*nodes, node, scaled], scaled.outputs[0], other


def affine(core: Core, start: ir.Value, axis: int, *, shift: bool) -> Affine:
    """The Mul by gamma (and the Add of beta when ``shift``) that alone read ``start``."""
    found = Affine(start)
    normal = None if core.d.shape is None else list(core.d.shape)[axis:]
    if normal is not None and 0 in normal:
        raise NearMiss("it normalises over nothing, which kernels refuse")
    if core.gamma is not None:
        found.gamma = _fitted(core.gamma, normal)
        if found.gamma is None:
            raise NearMiss(f"its scale of shape {core.gamma.shape} is not one number per normalised element")
    else:
        _step("Mul", found, normal)
    if shift:
        _step("Add", found, normal)
    if found.gamma is None:
        found.gamma = _ones(found.output, normal)
    if match.rank(found.output) != match.rank(core.d):  # an epsilon of shape [1,1] on a vector
        raise NearMiss("its constants raise the rank of the result")
    return found


def _step(op_type: str, found: Affine, normal: Sequence[int | ir.SymbolicDim] | None) -> None:
    """Takes in the Mul or Add behind ``found`` when its other operand has the normalised shape."""
    node = match.only_reader(found.output)
    if node is None or not match.is_op(node, op_type):
        return
    operand = node.inputs[1] if node.inputs[0] is found.output else node.inputs[0]
    fitted = None if operand is found.output else _fitted(operand, normal)
    if fitted is None:
        return
    found.output = node.outputs[0]
    found.nodes.append(node)
    if op_type == "Mul":
        found.gamma = fitted
    else:
        found.beta = fitted


def _fitted(operand: ir.Value | None, normal: Sequence[int | ir.SymbolicDim] | None) -> Operand | None:
    """``operand`` when it has the normalised shape; a constant loses leading axes of size one."""
    if operand is None or operand.shape is None or normal is None:
        return None
    dims = list(operand.shape)
    if dims == list(normal) and None not in [getattr(d, "value", d) for d in dims]:
        return operand
    extra = len(dims) - len(normal)
    if extra <= 0 or dims[:extra] != [1] * extra or dims[extra:] != list(normal):
        return None
    array = match.constant(operand)
    return None if array is None else newnode.constant(array.reshape(array.shape[extra:]))


def filled(operand: ir.Value, normal: Sequence[int | ir.SymbolicDim]) -> Operand | None:
    """``operand`` in the normalised shape; a constant that broadcasts to it is written out."""
    fitted = _fitted(operand, normal)
    sizes = [size for size in normal if isinstance(size, int)]
    if fitted is not None or len(sizes) != len(normal) or operand.shape is None:
        return fitted
    pairs = zip(reversed(list(operand.shape)), reversed(sizes), strict=False)
    if operand.shape.rank() > len(sizes) or any(own not in (1, size) for own, size in pairs):
        return None
    array = match.constant(operand)
    return None if array is None else newnode.constant(np.broadcast_to(array, sizes).copy())


def _ones(output: ir.Value, normal: Sequence[int | ir.SymbolicDim] | None) -> Operand:
    sizes = [size for size in normal or () if isinstance(size, int)]
    if normal is None or len(sizes) != len(normal) or output.dtype is None:
        raise NearMiss("it has no scale and the size that it normalises over is not known")
    return newnode.constant(np.ones(sizes, output.dtype.numpy()))
