"""The residual Add in front of a norm, with the bias Add in front of that."""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from optc import match, newnode
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss, Pattern, kind, opset

from . import _norm_bodies
from ._bias import is_bias
from ._dims import broadcasts_into, same_shape


class SkipNorm(Pattern):
    """norm(x + bias + skip) over the last axis; the sum may be read by others too."""

    name: ClassVar[str] = "skip_norm"
    family: ClassVar[str] = "skip-norm"
    anchors: ClassVar[frozenset[str]] = frozenset({"LayerNorm", "RMSNorm"})
    domain: ClassVar[str] = "optc"
    after: ClassVar[tuple[str, ...]] = ("layer_norm", "rms_norm", "heads")

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The Add that computes the input of a fused norm."""
        add = match.producer(node.inputs[0], "Add")
        if add is None or any(match.is_constant(value) for value in add.inputs):
            return None
        if add.graph is not node.graph:
            raise NearMiss("its residual Add is outside of the subgraph of the norm")
        if node.attributes["axis"].as_int() != -1:
            raise NearMiss("it normalises more than the last axis")
        total = add.outputs[0]
        shared = any(use.node is not node for use in total.uses()) or total.is_graph_output()
        inputs: dict[str, Operand] = dict(zip(("gamma", "beta"), _affine(node, shared), strict=False))
        x, skip = _operands(add)
        nodes = [add, node]
        if (biased := _biased(x)) is not None:
            x, inputs["bias"] = biased[1:]
            nodes.insert(0, biased[0])
        named = {"x": x, "skip": skip, **inputs}
        outputs = [node.outputs[0], total] if shared else [node.outputs[0]]
        attributes = {"epsilon": node.attributes["epsilon"].as_float(), "axis": -1}
        body = _body(node, list(named), shared, opset(model))
        return Match(f"Skip{kind(node)}", [*named.values()], outputs, body, attributes, nodes)


def _operands(add: ir.Node) -> tuple[ir.Value, ir.Value]:
    """The operands of the residual Add; the first has the shape of the sum, and the bias if one has."""
    fitting = [(x, skip) for x, skip in match.operands(add) if _fits(x, skip, add.outputs[0])]
    if not fitting:
        shapes = " and ".join(str(value.shape) for value in add.inputs if value is not None)
        raise NearMiss(f"the shapes of the residual Add, {shapes}, are not known to be equal")
    return next((pair for pair in fitting if _biased(pair[0])), fitting[0])


def _fits(x: ir.Value, skip: ir.Value, total: ir.Value) -> bool:
    return (match.rank(x) or 0) > 0 and same_shape(x, total) and broadcasts_into(skip, x)


def _biased(x: ir.Value) -> tuple[ir.Node, ir.Value, Operand] | None:
    """The Add of a bias that alone computes ``x``, what it is added to, and the bias."""
    add = match.producer(x, "Add")
    if add is None or not match.has_one_reader(x):
        return None
    for value, bias in match.operands(add):
        if is_bias(bias, value) and same_shape(value, x):
            return add, value, _movable(bias)
    return None


def _affine(node: ir.Node, shared: bool) -> list[Operand]:
    """Scale and shift; where the sum has other readers the norm moves up to it, so they must be there too."""
    values = [value for value in node.inputs[1:] if value is not None]
    if not shared:
        return [*values]
    if any(value.producer() is not None and not match.is_constant(value) for value in values):
        raise NearMiss("the sum is read by others, and the scale or shift is computed after it")
    return [_movable(value) for value in values]


def _movable(value: ir.Value) -> Operand:
    """The value of an initializer or input, or a copy of a Constant, whose node may come too late."""
    node = value.producer()
    if node is None:
        return value
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    return newnode.constant(tensor)


def _body(node: ir.Node, names: list[str], shared: bool, version: int) -> str:
    facts: dict[str, Any] = {
        "axis": -1,
        "epsilon": node.attributes["epsilon"].as_float(),
        "dtype": node.outputs[0].dtype,
        "opset": version,
    }
    if kind(node) == "LayerNorm":
        lines = _norm_bodies.layer_norm("total", shift="beta" in names, **facts)
    else:
        lines = _norm_bodies.rms_norm("total", **facts)
    first = "biased = Add(x, bias)\ntotal = Add(biased, skip)" if "bias" in names else "total = Add(x, skip)"
    results = "y, total" if shared else "y"
    return f"({', '.join(names)}) => ({results}) {{\n{first}\n{lines}\n}}"
