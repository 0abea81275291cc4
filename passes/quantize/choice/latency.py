"""What dynamic int8 saves at each product on this machine: every kind of product is timed alone, once.

A kind is a shape of the input, as the gate measures the model, and of the weight. What is timed is what the
target makes of the float product and of the int8 one, with their biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from optc import gate, match, measure, registry
from optc.analysis.concrete import concrete, sizes_of
from optc.passbase import Context
from optc.passes.quantize import dynamic
from optc.passes.quantize.static.sites import Site, find
from optc.trail import Trail

_SECONDS = 0.04  # of one comparison
_MOST = 24  # kinds that are timed, at all shapes together: those of the most operations
_CLEARLY = 0.97  # time in float over time in int8, below which the float product is faster

Shapes = tuple[int, ...]
Kind = tuple[Shapes, int, int]  # shape of the input, which is K at its end; K; N


@dataclass(frozen=True)
class Saving:
    """Seconds of one product in float and in int8, by shape of the model's inputs."""

    seconds: Mapping[str, tuple[float, float]]

    @property
    def slower(self) -> bool:
        """Whether int8 takes longer at every shape."""
        return bool(self.seconds) and all(plain < _CLEARLY * int8 for plain, int8 in self.seconds.values())

    @property
    def gain(self) -> float:
        """Seconds that int8 saves, on average over the shapes."""
        return float(np.mean([plain - int8 for plain, int8 in self.seconds.values()]))

    def __str__(self) -> str:
        plain, int8 = list(self.seconds.values())[-1]
        return f"{plain * 1e6:.0f} us in float, {int8 * 1e6:.0f} us in int8"


@dataclass(frozen=True)
class Timed:
    """What timing says about sites.

    Attributes:
        left: those that stay in float, with the reason, by name.
        gains: seconds that int8 saves at the others; empty when nothing was timed.
    """

    left: Mapping[str, str] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)


def timed(
    model: ir.Model, names: Sequence[str], ctx: Context, prefix: str, *, may_time: bool = True
) -> Timed:
    """Times the products of a model where the context allows that; decisions made before are taken instead.

    Args:
        prefix: of the decisions about sites.
    """
    if ctx.decided is not None:
        reason = "so it was decided when an earlier artifact was made"
        return Timed({name: reason for name in names if prefix + name in ctx.decided})
    if not (ctx.times and may_time):
        return Timed()
    found = savings(model, names, ctx)
    left = {name: f"int8 is not faster here: {saving}" for name, saving in found.items() if saving.slower}
    return Timed(left, {name: saving.gain for name, saving in found.items() if name not in left})


def savings(model: ir.Model, names: Sequence[str], ctx: Context) -> dict[str, Saving]:
    """By name of the sites, which are products; those whose shapes are not known are left out."""
    if not ctx.examples:
        return {}
    shapes = {
        label: _kinds(model, names, sizes_of(model, feeds))
        for label, feeds in gate.feeds_by_shape(model, ctx.examples[0]).items()
    }
    asked = sorted({kind for kinds in shapes.values() for kind in kinds.values()}, key=_work, reverse=True)
    times = {kind: _timed(kind, ctx) for kind in ctx.progress(asked[:_MOST], "latency of sites")}
    found = {}
    for name in names:
        kinds = {label: kinds[name] for label, kinds in shapes.items() if name in kinds}
        if kinds and all(kind in times for kind in kinds.values()):
            found[name] = Saving({label: times[kind] for label, kind in kinds.items()})
    return found


def _kinds(model: ir.Model, names: Sequence[str], sizes: Mapping[str, int]) -> dict[str, Kind]:
    sized, wanted = concrete(model, sizes).model, set(names)
    found = {}
    for site in find(sized)[0]:
        kind = _kind(site) if site.name in wanted and not site.is_convolution else None
        if kind is not None:
            found[site.name] = kind
    return found


def _kind(site: Site) -> Kind | None:
    shape, columns = site.data.shape, match.static_dim(site.weight, site.channels)
    if shape is None or not shape.is_static() or columns is None:
        return None
    rows = shape.numpy()
    return tuple(rows), rows[-1], columns


def _work(kind: Kind) -> int:
    shape, _, columns = kind
    return int(np.prod(shape)) * columns


def _timed(kind: Kind, ctx: Context) -> tuple[float, float]:
    """Seconds of the product of one kind, in float and in int8."""
    shape, rows, columns = kind
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal(shape).astype(np.float32)}
    open_program = gate.OrtPrograms(ctx.threads)
    calls = {}
    for name in ("float", "int8"):
        model = _product(shape, rng.standard_normal((rows, columns)).astype(np.float32))
        if name == "int8":
            dynamic.insert(model, find(model)[0])
        calls[name] = partial(open_program(_legal(model, ctx)).open(), feeds)
    timing = measure.paired(calls, seconds=_SECONDS)
    return timing.quartile("float"), timing.quartile("int8")


def _product(shape: Shapes, weight: np.ndarray) -> ir.Model:
    """One product with its bias."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    w, b = _constant("w", weight), _constant("b", np.ones(weight.shape[1], np.float32))
    result = ir.Shape((*shape[:-1], weight.shape[1]))
    product = _node("MatMul", x, w, "p", result)
    biased = _node("Add", product.outputs[0], b, "y", result)
    graph = ir.Graph(
        [x], biased.outputs, nodes=[product, biased], initializers=[w, b], name="g", opset_imports={"": 21}
    )
    return ir.Model(graph, ir_version=10)


def _constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )


def _node(op_type: str, left: ir.Value, right: ir.Value, name: str, shape: ir.Shape) -> ir.Node:
    output = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    return ir.node(op_type, [left, right], outputs=[output], name=name)


def _legal(model: ir.Model, ctx: Context) -> ir.Model:
    quiet = replace(ctx, trail=Trail(), progress=lambda items, _: items, lowerings={})
    for name in ("fuse", "legalize"):
        registry.find_pass(name)().run(model, quiet)
    return model
