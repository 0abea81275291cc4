"""The two products of attention, as MatMul or as Einsum: which operand is what, in which layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import NearMiss

from . import _new
from ._operands import Scaled, keys, unscaled


@dataclass(frozen=True)
class Weighing:
    """``values`` [..., keys, size]; the product's own result is [..., queries, size] permuted by ``perm``."""

    values: Operand
    perm: tuple[int, ...] | None = None


def queries_and_keys(product: ir.Node) -> tuple[Scaled, Scaled]:
    """Queries [..., queries, size] and keys [..., keys, size] whose product ``product`` computes.

    Queries that are the same for all of the batch may lack its axis.
    """
    first, second = _two_inputs(product)
    if product.op_type == "MatMul":
        return unscaled(first), keys(second)
    (left, right), result = _labels(product)
    if len(result) < 2 or result[-2] not in left:
        (left, right), (first, second) = (right, left), (second, first)
    contracted = [label for label in left if label in right and label not in result]
    batch, pair = result[:-2], result[-2:]
    own = batch[next((at for at, label in enumerate(batch) if label in left), len(batch)) :]
    if len(contracted) != 1 or len(set(result)) != len(result):
        raise NearMiss("the Einsum of the scores does not sum over one axis")
    return (
        _permuted(unscaled(first), left, f"{own}{pair[:1]}{contracted[0]}"),
        _permuted(unscaled(second), right, f"{batch}{pair[1:]}{contracted[0]}"),
    )


def weighing(product: ir.Node, index: int, swapped: bool) -> Weighing:
    """What the probabilities, input ``index`` of ``product``, weigh; ``swapped``: as [..., keys, queries]."""
    operands = _two_inputs(product)
    if product.op_type == "MatMul":
        if swapped != (index == 1):
            raise NearMiss("the product with the values does not sum over the keys")
        if not swapped:
            return Weighing(operands[1])
        perm = _exchanged(len(_new.dims(product.outputs[0])))
        return Weighing(_new.transpose(operands[0], _exchanged(len(_new.dims(operands[0])))), perm)
    inputs, result = _labels(product)
    probabilities, values = inputs[index], inputs[1 - index]
    if swapped:
        probabilities = probabilities[:-2] + probabilities[:-3:-1]
    batch, query, key = probabilities[:-2], probabilities[-2:-1], probabilities[-1:]
    size = [label for label in values if label not in probabilities]
    if len(size) != 1 or key in result or len(set(probabilities)) != len(probabilities):
        raise NearMiss("the Einsum with the values does not sum over the keys")
    found = _permuted(Scaled(operands[1 - index], 1.0), values, f"{batch}{key}{size[0]}")
    own = f"{batch}{query}{size[0]}"
    if sorted(own) != sorted(result):
        raise NearMiss("the Einsum with the values drops or adds an axis")
    return Weighing(found.value, tuple(own.index(label) for label in result))


def _exchanged(rank: int) -> tuple[int, ...]:
    """The permutation that exchanges the last two axes."""
    return (*range(rank - 2), rank - 1, rank - 2)


def _two_inputs(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    if len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
        raise NearMiss(f"{node.op_type} has not two operands")
    return node.inputs[0], node.inputs[1]


def _labels(einsum: ir.Node) -> tuple[tuple[str, str], str]:
    """One letter per axis, of both operands and of the result."""
    equation = einsum.attributes["equation"].as_string().replace(" ", "")
    left, arrow, result = equation.partition("->")
    first, comma, second = left.partition(",")
    if not arrow or not comma:
        raise NearMiss(f"the Einsum {equation!r} is not written out")
    values = (*einsum.inputs, einsum.outputs[0])
    first, second, result = (
        _written_out(*each) for each in zip((first, second, result), values, strict=True)
    )
    return (first, second), result


def _written_out(labels: str, value: ir.Value | None) -> str:
    """Labels with a digit per axis, counted from the last one, in the place of an ellipsis."""
    rank = match.rank(value)
    hidden = rank - len(labels.replace("...", "")) if rank is not None else -1
    if hidden < 0 or hidden > 9 or (hidden > 0 and "..." not in labels):
        raise NearMiss("the rank of an operand of Einsum is not known")
    return labels.replace("...", "".join(str(axis) for axis in reversed(range(hidden))))


def _permuted(operand: Scaled, labels: str, wanted: Sequence[str]) -> Scaled:
    if sorted(labels) != sorted(wanted):
        raise NearMiss("an operand of Einsum lacks an axis, or has one more")
    perm = [labels.index(label) for label in wanted]
    return replace(operand, value=_new.transpose(operand.value, perm))
