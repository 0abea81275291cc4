"""Models of one kind of product alone, in float and in each scheme, to be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from optc import registry
from optc.passbase import Context
from optc.passes.quantize import dynamic, weight_only
from optc.passes.quantize.static.sites import find
from optc.trail import Trail

Shapes = tuple[int, ...]
Kind = tuple[Shapes, int, int]  # shape of the input, which is K at its end; K; N

FLOAT, DYNAMIC, WEIGHT8, WEIGHT4 = "float", "int8-dynamic", "int8-weight", "int4-weight"
GROUP = 128  # rows that share a scale, where speed is what weights are packed for

_OUT_OF_CACHE = 2**24  # weights that are read in turns: in a model, others come between two uses of one
_MOST_COPIES = 8


def copies(kind: Kind, rows: int) -> int:
    """How many products with weights of their own are timed together.

    Where there are few rows, reading the weight is what takes the time, and one that stays in the cache would
    tell nothing.
    """
    _, terms, columns = kind
    return 1 if rows > 1 else int(np.clip(_OUT_OF_CACHE // (terms * columns), 1, _MOST_COPIES))


def made(kind: Kind, scheme: str, count: int, ctx: Context) -> ir.Model:
    """What the target makes of ``count`` products of one input, with their biases."""
    shape, terms, columns = kind
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((terms, columns), np.float32) for _ in range(count)]
    model = _products(shape, weights)
    quantize = _WAYS.get(scheme)
    if quantize is not None:
        quantize(model, ctx)
    return _legal(model, ctx)


def _in_blocks(bits: int) -> Callable[[ir.Model, Context], None]:
    def quantize(model: ir.Model, ctx: Context) -> None:
        quiet = replace(ctx, progress=lambda items, _: items)
        sites = find(model)[0]
        weight_only.quantize_weights(model, sites, None, quiet, bits=bits, group=GROUP, method="rtn")

    return quantize


_WAYS: dict[str, Callable[[ir.Model, Context], None]] = {
    DYNAMIC: lambda model, _: dynamic.insert(model, find(model)[0]),
    WEIGHT8: _in_blocks(8),
    WEIGHT4: _in_blocks(4),
}


def _products(shape: Shapes, weights: list[np.ndarray]) -> ir.Model:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    nodes, outputs, constants = list[ir.Node](), list[ir.Value](), list[ir.Value]()
    for number, weight in enumerate(weights):
        w = _constant(f"w{number}", weight)
        b = _constant(f"b{number}", np.ones(weight.shape[1], np.float32))
        result = ir.Shape((*shape[:-1], weight.shape[1]))
        product = _node("MatMul", x, w, f"p{number}", result)
        biased = _node("Add", product.outputs[0], b, f"y{number}", result)
        nodes += [product, biased]
        outputs += biased.outputs
        constants += [w, b]
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=constants, name="g", opset_imports={"": 21})
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
