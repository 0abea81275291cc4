"""Arithmetic read as a polynomial, so that a formula is recognised however it is written down.

``x * 0.5 * (1 + erf(x / 1.414))``, ``0.5 * x + erf(x * 0.707) * 0.5 * x`` and all the others are the same
polynomial in ``x`` and ``t = erf(..)``, whose own argument is a polynomial in ``x``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from optc import match

Exponents = tuple[int, ...]
Polynomial = dict[Exponents, float]

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Pow")
_MAX_NODES = 16
_MAX_DEGREE = 4


@dataclass
class Expansion:
    """Expands values into polynomials over ``atoms``; remembers the nodes it went through."""

    atoms: Sequence[ir.Value]
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    constant_rank: int = 0
    _known: dict[ir.Node, Polynomial | None] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> Polynomial | None:
        """The polynomial that ``value`` is, or None when it is something else."""
        for position, atom in enumerate(self.atoms):
            if value is atom:
                return {tuple(int(position == i) for i in range(len(self.atoms))): 1.0}
        number = self._number(value)
        if number is not None:
            return {(0,) * len(self.atoms): number}
        node = match.producer(value, *_ARITHMETIC)
        if node is None:
            return None
        if node not in self._known and len(self.nodes) < _MAX_NODES:
            self.nodes[node] = None
            self._known[node] = self._of_node(node)
        return self._known.get(node)

    def _number(self, value: ir.Value | None) -> float | None:
        number = match.scalar(value)
        if number is not None:
            self.constant_rank = max(self.constant_rank, match.rank(value) or 0)
        return number

    def _of_node(self, node: ir.Node) -> Polynomial | None:
        a = self.of(node.inputs[0])
        if node.op_type == "Neg" or a is None:
            return None if a is None else _scaled(a, -1.0)
        if node.op_type == "Pow":
            return self._power(a, self._number(node.inputs[1]))
        b = self.of(node.inputs[1])
        if b is None:
            return None
        if node.op_type in ("Add", "Sub"):
            return _sum(a, b if node.op_type == "Add" else _scaled(b, -1.0))
        if node.op_type == "Mul":
            return _product(a, b)
        divisor = b.get((0,) * len(self.atoms), 0.0)
        return _scaled(a, 1.0 / divisor) if len(b) == 1 and divisor != 0.0 else None

    def _power(self, base: Polynomial, exponent: float | None) -> Polynomial | None:
        if exponent not in (1.0, 2.0, 3.0):
            return None
        result: Polynomial | None = base
        for _ in range(int(exponent) - 1):
            result = None if result is None else _product(result, base)
        return result


def _scaled(a: Polynomial, factor: float) -> Polynomial:
    return {key: value * factor for key, value in a.items()}


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in {**a, **b}}


def _product(a: Polynomial, b: Polynomial) -> Polynomial | None:
    result: Polynomial = {}
    for left, x in a.items():
        for right, y in b.items():
            key = tuple(i + j for i, j in zip(left, right, strict=True))
            if sum(key) > _MAX_DEGREE:
                return None
            result[key] = result.get(key, 0.0) + x * y
    return result


@dataclass(frozen=True)
class Gated:
    """``output = x * (offset + slope * f(inner(x)))``; ``inner`` maps powers of x to coefficients."""

    x: ir.Value
    output: ir.Value
    inner: Mapping[int, float]
    offset: float
    slope: float
    nodes: tuple[ir.Node, ...]


def gated(node: ir.Node) -> Iterator[Gated]:
    """Every way in which the function ``node`` gates a value that its own argument is made of."""
    argument, t = node.inputs[0], node.outputs[0]
    for x in _sources(argument):
        inside = Expansion([x])
        inner = inside.of(argument)
        if inner is None or any(power == (0,) and c != 0.0 for power, c in inner.items()):
            continue
        for output in _results(t):
            outside = Expansion([x, t])
            form = outside.of(output)
            if form is None or not set(form) <= {(1, 0), (1, 1)} or (1, 1) not in form:
                continue
            if max(inside.constant_rank, outside.constant_rank) > (match.rank(x) or 0):
                continue
            nodes = dict.fromkeys([*inside.nodes, node, *outside.nodes])
            powers = {power[0]: c for power, c in inner.items() if c != 0.0}
            yield Gated(x, output, powers, form.get((1, 0), 0.0), form[(1, 1)], tuple(nodes))


def _sources(argument: ir.Value | None) -> list[ir.Value]:
    """The values that ``argument`` could be a polynomial of, nearest first."""
    found = [] if argument is None or match.is_constant(argument) else [argument]
    for value in found:
        node = match.producer(value, *_ARITHMETIC)
        if node is None or len(found) >= _MAX_NODES:
            continue
        for source in node.inputs:
            if source is not None and source not in found and not match.is_constant(source):
                found.append(source)
    return found


def _results(t: ir.Value) -> list[ir.Value]:
    """The values that arithmetic on ``t`` leads to, nearest first."""
    found = [t]
    for value in found:
        for use in value.uses():
            if len(found) == _MAX_NODES or not match.is_op(use.node, *_ARITHMETIC):
                continue
            if use.node.outputs[0] not in found:
                found.append(use.node.outputs[0])
    return found[1:]
