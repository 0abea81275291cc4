"""Layer normalisation (Ba, Kiros and Hinton, arXiv:1607.06450) from its parts, or the native op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss, Pattern, opset

from . import _norm_bodies
from ._norm import Core, affine, centring, filled, find_core, reduced_axes, squared, suffix_axis
from ._widened import widened


class LayerNorm(Pattern):
    """(x - mean) / sqrt(variance + epsilon) over the last axes, scaled and shifted."""

    name: ClassVar[str] = "layer_norm"
    family: ClassVar[str] = "norm"
    anchors: ClassVar[frozenset[str]] = frozenset({"ReduceMean", "LayerNormalization"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The parts around the mean that gives the variance, or a native LayerNormalization."""
        if node.op_type == "LayerNormalization":
            return _native(node, model)
        sub = centring(squared(node.inputs[0])[1])
        core = None if sub is None else find_core(node)
        if sub is None or core is None or sub.inputs[0] is None:
            return None
        mean = _mean(sub, core)
        axis = suffix_axis(core.axes)
        around = widened(sub.inputs[0], core.output, [mean, sub, *core.nodes])
        scale = affine(core, around.output, axis, shift=True)
        inputs = [around.x, scale.gamma, scale.beta]
        nodes = [*around.nodes, *scale.nodes]
        return _fused(model, inputs, scale.output, axis, core.epsilon, nodes)


def _mean(sub: ir.Node, core: Core) -> ir.Node:
    """The node of the mean, which is taken over the axes of the variance."""
    mean = match.producer(sub.inputs[1], "ReduceMean")
    if mean is None or reduced_axes(mean) != core.axes:
        raise NearMiss("its mean and its variance are taken over different axes")
    return mean


def _native(node: ir.Node, model: ir.Model) -> Match:
    x, y = node.inputs[0], node.outputs[0]
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise NearMiss("its mean or deviation is read as well")
    axis, affine = native_parts(node)
    return _fused(model, [x, *affine], y, axis, match.attr_float(node, "epsilon", 1e-5), [node])


def native_parts(node: ir.Node) -> tuple[int, list[Operand]]:
    """The axis of a native norm counted from the end, and its scale and bias in the normalised shape."""
    if match.attr_int(node, "stash_type", 1) != 1:
        raise NearMiss("it does not compute in single precision")
    x, *affine = (value for value in node.inputs if value is not None)
    if x.shape is None:
        raise NearMiss("the rank of its input is not known")
    axis = match.attr_int(node, "axis", -1)
    axis = axis if axis < 0 else axis - x.shape.rank()
    fitted = [filled(value, list(x.shape)[axis:]) for value in affine]
    given = [value for value in fitted if value is not None]
    if len(given) < len(fitted):
        raise NearMiss("its scale or bias does not have the normalised shape")
    return axis, given


def _fused(
    model: ir.Model,
    inputs: Sequence[Operand | None],
    output: ir.Value,
    axis: int,
    epsilon: float,
    nodes: list[ir.Node],
) -> Match:
    given = [value for value in inputs if value is not None]
    shift = len(given) == 3
    lines = _norm_bodies.layer_norm(
        "x", shift=shift, axis=axis, epsilon=epsilon, dtype=given[0].dtype, opset=opset(model)
    )
    body = f"(x, gamma{', beta' if shift else ''}) => (y) {{\n{lines}\n}}"
    return Match("LayerNorm", given, [output], body, {"axis": axis, "epsilon": epsilon}, nodes)
