"""GELU in its erf, tanh and sigmoid forms (Hendrycks and Gimpel, arXiv:1606.08415)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from optc.rewrite import Match, NearMiss, Pattern, opset

from ._constants import close, is_float, literal
from ._polynomial import Gated, gated

_ROOT = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715
_INNER = "sqrt(2 / pi) * (x + 0.044715 * x^3)"


@dataclass(frozen=True)
class _Form:
    """``x * (offset + slope * f(inner(x)))`` is GELU with this ``approximate``."""

    approximate: str
    inner: Mapping[int, float]
    offset: float
    slope: float
    wanted: str  # the inner function in words


_FORMS = {
    "Erf": [_Form("none", {1: math.sqrt(0.5)}, 0.5, 0.5, "x / sqrt(2)")],
    "Tanh": [_Form("tanh", {1: _ROOT, 3: _ROOT * _CUBIC}, 0.5, 0.5, _INNER)],
    "Sigmoid": [
        _Form("quick", {1: 1.702}, 0.0, 1.0, "1.702 * x"),
        _Form("tanh", {1: 2 * _ROOT, 3: 2 * _ROOT * _CUBIC}, 0.0, 1.0, f"2 * {_INNER}"),
    ],
}


class Gelu(Pattern):
    """x times the normal distribution function of x, exact or approximated."""

    name: ClassVar[str] = "gelu"
    family: ClassVar[str] = "gelu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Erf", "Tanh", "Sigmoid", "Gelu"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The gate around an Erf, Tanh or Sigmoid, or a native Gelu."""
        if node.op_type == "Gelu":
            attribute = node.attributes.get("approximate")
            approximate = "none" if attribute is None else attribute.as_string()
            return _fused(model, approximate, node.inputs[0], node.outputs[0], (node,))
        if not is_float(node.outputs[0].dtype):
            return None
        nearest = None
        for found in gated(node):
            form = _form_for(node, found)
            nearest = _difference(found, form)
            if nearest is None:
                return _fused(model, form.approximate, found.x, found.output, found.nodes)
        if nearest is not None and _looks_like_gelu(node, found):
            raise NearMiss(nearest)
        return None


def _form_for(node: ir.Node, found: Gated) -> _Form:
    """The form whose inner function has the powers that were found, or the op's first."""
    forms = _FORMS[node.op_type]
    return next((form for form in forms if set(form.inner) == set(found.inner)), forms[0])


def _difference(found: Gated, form: _Form) -> str | None:
    """What keeps ``found`` from being ``form``."""
    dtype = found.x.dtype
    if set(found.inner) != set(form.inner):
        powers = " + ".join(f"{c:.7g} * x^{power}" for power, c in sorted(found.inner.items()))
        return f"the inner function is {powers}, not {form.wanted}"
    for power, expected in form.inner.items():
        if not close(found.inner[power], expected, dtype, roundings=2 if power == 1 else 3):
            actual = found.inner[power]
            return f"the constant of x^{power} is {actual:.7g}, not {expected:.7g} as in {form.wanted}"
    for actual, expected in ((found.offset, form.offset), (found.slope, form.slope)):
        if not close(actual, expected, dtype):
            return f"the outer constant is {actual:.7g}, not {expected:.7g}"
    return None


def _looks_like_gelu(node: ir.Node, found: Gated) -> bool:
    """Whether a gate with other constants was meant as a GELU; a Sigmoid is more often a SiLU."""
    if node.op_type == "Sigmoid":
        return 3 in found.inner or not close(found.inner.get(1, 0.0), 1.0, found.x.dtype)
    return node.op_type == "Erf" or 3 in found.inner


def _fused(
    model: ir.Model, approximate: str, x: ir.Value | None, y: ir.Value, nodes: tuple[ir.Node, ...]
) -> Match:
    assert x is not None
    body = f"(x) => (y) {{\n{gelu_body(approximate, x.dtype, opset(model))}\n}}"
    return Match("Gelu", [x], [y], body, {"approximate": approximate}, nodes)


def gelu_body(approximate: str, dtype: ir.DataType | None, version: int, x: str = "x") -> str:
    """Lines for ``y`` from ``x``: the ONNX op where the opset has it, else what ONNX Runtime fuses."""
    if approximate == "quick":
        return f"""{literal("scale", 1.702, dtype)}
            scaled = Mul({x}, scale)
            gate = Sigmoid(scaled)
            y = Mul({x}, gate)"""
    if (
        version >= 20 and dtype != ir.DataType.DOUBLE
    ):  # for which the runtime computes it with float32 constants
        return f'y = Gelu <approximate = "{approximate}"> ({x})'
    if approximate == "none":
        return f"""{literal("root", math.sqrt(2.0), dtype)}
            {literal("one", 1.0, dtype)}
            {literal("half", 0.5, dtype)}
            scaled = Div({x}, root)
            t = Erf(scaled)
            gate = Add(t, one)
            gated = Mul({x}, gate)
            y = Mul(gated, half)"""
    return f"""{literal("three", 3.0, dtype)}
        {literal("cubic", _CUBIC, dtype)}
        {literal("root", _ROOT, dtype)}
        {literal("one", 1.0, dtype)}
        {literal("half", 0.5, dtype)}
        cube = Pow({x}, three)
        scaled = Mul(cube, cubic)
        inner = Add({x}, scaled)
        argument = Mul(inner, root)
        t = Tanh(argument)
        gate = Add(t, one)
        halved = Mul({x}, half)
        y = Mul(halved, gate)"""
