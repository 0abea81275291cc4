"""Moves that nest graphs: If with decided and open conditions, and a Loop."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import elementwise, linear, movement
from .builder import Builder, Reject

MOVES_INSIDE = (*elementwise.MOVES, *movement.MOVES, *linear.MOVES)


def if_(b: Builder) -> None:
    condition = b.pick(lambda a: a.dtype == bool and a.size == 1)
    kind = b.value(b.pick(elementwise.is_number)).dtype
    branches = [_branch(b, kind, name) for name in ("then", "else")]
    node = helper.make_node(
        "If", [condition], [b.names.fresh("v")], then_branch=branches[0], else_branch=branches[1]
    )
    b.append(node)


def decided_if(b: Builder) -> None:
    b.constant(np.array(b.chance(0.5)))
    if_(b)


def _branch(b: Builder, dtype: np.dtype, name: str) -> onnx.GraphProto:
    inner = b.inside()
    for _ in range(b.rng.randint(0, 3)):
        inner.attempt(b.rng.choice(MOVES_INSIDE))
    found = [v for v in inner.known if inner.known[v].dtype == dtype and v not in inner.constants]
    result = found[-1] if found else inner.op("Identity", inner.pick(lambda a: a.dtype == dtype))
    if inner.inputs:
        raise Reject("a branch has no inputs")
    return graph(inner, name, [], [result])


def loop(b: Builder) -> None:
    """A Loop of two or three rounds that carries one value of fixed shape, and may collect another."""
    start = b.pick(elementwise.is_float)
    array = b.value(start)
    inner = b.inside()
    step, going, carried = (inner.names.fresh(prefix) for prefix in ("step", "going", "carried"))
    inner.known |= {step: np.array(0), going: np.array(True), carried: array}
    for _ in range(b.rng.randint(1, 3)):
        inner.attempt(b.rng.choice(MOVES_INSIDE))
    if inner.inputs:
        raise Reject("a body has no more inputs")
    fits = [v for v, a in inner.known.items() if a.dtype == array.dtype and a.shape == array.shape]
    result = inner.op("Identity", fits[-1])
    still = inner.op("Identity", going)
    inputs = [
        helper.make_tensor_value_info(step, onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info(going, onnx.TensorProto.BOOL, []),
        helper.make_tensor_value_info(carried, helper.np_dtype_to_tensor_dtype(array.dtype), None),
    ]
    rounds = b.rng.choice((0, 1, 2, 3))
    # What is collected in no round has the rank that the runtime happens to infer, or none.
    collected = [inner.op("Identity", result)] if b.chance(0.3) and rounds else []
    body = graph(inner, "body", inputs, [still, result, *collected])
    count = b.constant(np.array(rounds, np.int64))
    outputs = [b.names.fresh("v") for _ in range(1 + len(collected))]
    b.append(helper.make_node("Loop", [count, "", start], outputs, body=body))


def graph(
    inner: Builder, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[str]
) -> onnx.GraphProto:
    results = [
        helper.make_tensor_value_info(out, helper.np_dtype_to_tensor_dtype(inner.value(out).dtype), None)
        for out in outputs
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in inner.constants.items()]
    return helper.make_graph(inner.nodes, name, inputs, results, tensors)


MOVES = (if_, if_, decided_if, loop)
