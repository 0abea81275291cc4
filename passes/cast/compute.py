"""Half precision for computation: nodes read half-precision copies, and islands stay in float32."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis import shapes
from optc.passbase import Context, Report, Skip
from optc.passes.quantize.static.graph import Graph
from optc.rewrite import opset

from . import islands, slots

_FLOAT = ir.DataType.FLOAT


def narrow_computation(
    model: ir.Model, to: ir.DataType, kept: re.Pattern[str] | None, ctx: Context
) -> Report:
    """Converts what is not an island; the inputs and outputs of the model keep their types.

    Without calibration data the examples say which values overflow.
    """
    shapes.infer(model)
    samples = ctx.calibration or ctx.examples
    reasons = islands.find(model, to, kept, samples, ctx)
    conversion = _Conversion(model, to)
    version = opset(model)
    for node in list(model.graph):
        places = slots.find(node, version, to) if node not in reasons and slots.concerns(node) else None
        if places is not None:
            conversion.narrow(node, places)
    conversion.finish()
    done = Counter({f"node in {to.name.lower()}": conversion.count} if conversion.count else {})
    skips = tuple(
        Skip(node.name or str(node.outputs[0].name), f"left in float: {reason}")
        for node, reason in reasons.items()
    )
    detail = {"overflow judged on": len(samples), "islands": len(skips)}
    return Report(bool(conversion.count), dict(done), skips, detail)


class _Conversion:
    """Gives nodes half-precision inputs and outputs, with one Cast per value and direction."""

    def __init__(self, model: ir.Model, to: ir.DataType) -> None:
        self._graph, self._to = Graph(model), to
        self._narrowed: dict[ir.Value, ir.Value] = {}  # float32 value -> its half-precision form
        self.count = 0

    def narrow(self, node: ir.Node, places: slots.Slots) -> None:
        """Lets one node compute in half precision; readers that stay in float32 get its result widened."""
        for index in places.inputs:
            value = node.inputs[index]
            assert value is not None
            node.replace_input_with(index, self._half(value))
        for index in places.outputs:
            self._narrow_output(node.outputs[index])
        self.count += 1

    def finish(self) -> None:
        """Removes the widened copies and the float32 weights that nothing reads."""
        for value in self._narrowed:
            cast = match.producer(value, "Cast")
            if cast is not None and not value.uses() and not value.is_graph_output():
                self._graph.remove(cast)
        self._graph.drop_unused()

    def _half(self, value: ir.Value) -> ir.Value:
        if value not in self._narrowed:
            array = match.constant(value)
            if array is not None:
                with np.errstate(over="ignore"):
                    half = self._constant(array.astype(self._to.numpy()), value)
            else:
                half = self._cast(value, self._to, f"{value.name}.{self._to.name.lower()}")
                self._graph.place_behind(value, half)
            self._narrowed[value] = half
        return self._narrowed[value]

    def _constant(self, array: np.ndarray, like: ir.Value) -> ir.Value:
        return self._graph.constant(array, f"{like.name}.{self._to.name.lower()}")

    def _narrow_output(self, old: ir.Value) -> None:
        """``old`` becomes half precision under another name, and a Cast computes it for its readers."""
        old.type = ir.TensorType(self._to)
        name = str(old.name)
        wide = self._cast(old, _FLOAT, f"{name}.float")
        self._graph.place_behind(old, wide)
        maker = wide.producer()
        self._graph.replace(old, wide, but=maker)
        if wide.name != name:
            old.name, wide.name = self._graph.fresh(f"{name}.{self._to.name.lower()}"), name
        self._narrowed[wide] = old

    def _cast(self, value: ir.Value, to: ir.DataType, hint: str) -> ir.Value:
        return self._graph.make("Cast", [value], hint, to, value.shape, to=int(to))
