"""Whether rounding alone can explain a difference.

A graph that subtracts nearly equal numbers, or compares and rounds them, turns the last bit of a value into
anything. So before a difference is called wrong, the model runs again with every float value moved at random:
by its last bits, or behind a lossy pass by what eight bits cannot tell apart. What moves as far as the
difference by that has no defined value to hold it to.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.difference import Difference, difference
from optc.session import ORT_ERRORS, open_session, run_session

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
_TRIES = 4


@dataclass(frozen=True)
class Noise:
    """How far values are moved."""

    relative: Mapping[ir.DataType, float] = field(default_factory=dict)  # to each element
    of_largest: float = 0.0  # to the largest element of its tensor
    slack: float = 8.0  # a rewrite may round in several places where one value was moved


LAST_BITS = Noise({ir.DataType.FLOAT: 2**-22, ir.DataType.DOUBLE: 2**-50, ir.DataType.FLOAT16: 2**-10})
COARSE = Noise(of_largest=1 / 64)


def explains(
    plain: ir.Model,
    feeds: Mapping[str, Any],
    expected: Mapping[str, Any],
    found: Difference,
    noise: Noise = LAST_BITS,
    calibration: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Whether moving the values moves the outputs about as far.

    Args:
        calibration: feeds whose values decide on the codes of eight bits, these ones among them.
    """
    values = _values(plain, feeds)
    runs = [_values(plain, each) for each in calibration] if noise.of_largest else []
    if not all(np.isfinite(array).all() for run in runs for array in run.values()):
        return True  # a NaN, or infinity, has no codes of eight bits
    largest = {name: max(float(np.abs(run[name]).max(initial=0)) for run in runs) for name in values if runs}
    given = {} if noise.of_largest else feeds  # a caller's numbers are rounded by quantizing only
    stay = {*given, *(value.name for value in plain.graph.initializers.values())}
    movable = {name: array for name, array in values.items() if name not in stay}
    session = open_session(_moved(plain, movable), optimize=False, threads=1)
    for seed in range(_TRIES):
        steps = _steps(movable, noise, largest, np.random.default_rng(seed))
        try:
            moved = difference(expected, run_session(session, {**feeds, **steps}))
        except ORT_ERRORS:
            return False
        if moved.excess * noise.slack >= found.excess:
            return True
    return False


def _values(plain: ir.Model, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the float values of the main graph are on these feeds, its inputs among them.

    Empty ones are left out: the runtime at times infers another size for them, and refuses the noise then.
    """
    copy = plain.clone()
    for node in copy.graph:
        for value in node.outputs:
            if value.name and value.dtype in _DTYPES and not value.is_graph_output():
                copy.graph.outputs.append(value)
    found = {**feeds, **run_session(open_session(copy, optimize=False, threads=1), feeds)}
    return {n: a for n, a in found.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size}


def _steps(
    values: Mapping[str, np.ndarray], noise: Noise, largest: Mapping[str, float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What is added to each value, whose largest element is given for noise that goes by that.

    They have the names of the inputs that ``_moved`` makes for them.
    """
    steps = {}
    for name, array in values.items():
        relative = noise.relative.get(ir.DataType.from_numpy(array.dtype), 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.abs(array) * relative + largest.get(name, 0) * noise.of_largest
            step = rng.integers(-1, 2, array.shape) * np.where(np.isfinite(size), size, 0)
            steps[_step(name)] = np.asarray(step).astype(array.dtype)
    return steps


def _step(name: str) -> str:
    return f"{name}__step"


def _moved(plain: ir.Model, names: Container[str]) -> ir.Model:
    """The model with an input for each of these values, which is added to it.

    The inputs have no shapes: from those of constants the runtime would infer sizes that it did not know, and
    refuse a branch that is never taken.
    """
    copy = plain.clone()
    first = next(iter(copy.graph), None)
    for value in list(copy.graph.inputs):
        if value.name in names and first is not None:
            _move(copy.graph, None, value, first)
    for node in list(copy.graph):
        for value in node.outputs:
            if value.name in names and value.dtype in _DTYPES:
                _move(copy.graph, node, value, first)
    return copy


def _move(graph: ir.Graph, node: ir.Node | None, value: ir.Value, first: ir.Node | None) -> None:
    assert value.dtype is not None and value.name is not None
    added = ir.Value(name=_step(value.name), type=ir.TensorType(value.dtype))
    graph.inputs.append(added)
    readers = list(value.uses())
    result = ir.Value(name=f"{value.name}__moved", type=value.type, shape=value.shape)
    if node is not None:  # results keep their names, inputs keep theirs
        result.name, value.name = value.name, f"{value.name}__exact"
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = result
    for use in readers:
        use.node.replace_input_with(use.idx, result)
    move = ir.node("Add", [value, added], outputs=[result], name=f"{result.name}__move")
    if node is not None:
        graph.insert_after(node, move)
    elif first is not None:
        graph.insert_before(first, move)
