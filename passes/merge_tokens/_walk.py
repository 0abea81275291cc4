"""Rewrites what lies behind the places: shapes that mention the number of tokens, operands that go along with
them, masks; and puts all tokens back in front of whatever needs them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from optc import match, rewrite
from optc.analysis.axes_layout import Dim, Layout
from optc.analysis.axes_rules import ATTENTIONS
from optc.analysis.graph import Captures, captures
from optc.subgraphs import subgraphs

from . import _attend
from ._emit import Emitter
from ._level import Level, all_tokens, side_of
from ._places import Place, Stream

Reduce = Callable[[Place, "Level | None", ir.Value], "Level | None"]


class Walk:
    """One walk over the graph, in order, from the first place of a stream on."""

    def __init__(self, model: ir.Model, stream: Stream, protected: int, reduce: Reduce) -> None:
        self.model, self.protected, self.reduce = model, protected, reduce
        self.layouts, self.steps = dict(stream.followed.layouts), stream.followed.steps
        self.levels: dict[ir.Value, Level] = {}
        self.places = {place.tokens: place for place in stream.places}
        self.restored: list[str] = []  # what needed all tokens, for the report

    def run(self) -> None:
        """Rewrites the graph."""
        graph = self.model.graph
        captured = captures(graph)
        if (place := next((self.places[v] for v in graph.inputs if v in self.places), None)) is not None:
            raise AssertionError(f"attention of block {place.block} lies before its tokens")
        for node in list(graph):
            self._node(node, captured)
            for value in node.outputs:
                if value in self.places:
                    self._place(self.places[value], value, node)
        for index, value in enumerate(graph.outputs):
            if value in self.levels:
                graph.outputs[index] = self._output(value)

    def _node(self, node: ir.Node, captured: Captures) -> None:
        reads = [value for value in (*node.inputs, *captured.get(node, ())) if value is not None]
        reduced = [value for value in reads if value in self.levels]
        if not reduced:
            return
        step = self.steps.get(node)
        level = self.levels[reduced[0]]
        same = all(self.levels.get(value) is level for value in reads if value in self.layouts)
        few = step is not None and (step.first is None or step.first <= self.protected)
        if step is None or not same or not few:
            self._restore(node)
            return
        node = self._edit(node, level)
        for value, layout in zip(node.outputs, step.outputs, strict=False):
            if layout is not None:
                self.layouts[value], self.levels[value] = layout, level
                value.shape = sized(layout, level.count)

    def _restore(self, node: ir.Node) -> None:
        """Gives a node, and the graphs inside it, all tokens."""
        inside = [inner for _, body in subgraphs(node) for inner in body.all_nodes()]
        for reader in (node, *inside):
            for index, value in enumerate(reader.inputs):
                if value is not None and value in self.levels:
                    reader.replace_input_with(index, self._all(value))
        for _, body in subgraphs(node):
            for graph in (body, *body.subgraphs()):
                for index, value in enumerate(graph.outputs):
                    if value in self.levels:
                        graph.outputs[index] = self._all(value)
        if node.op_type != "Shape":
            self.restored.append(node.name or node.op_type)

    def _all(self, value: ir.Value) -> ir.Value:
        node = value.producer()
        assert node is not None
        return all_tokens(self.levels[value], value, self.layouts[value], node)

    def _output(self, value: ir.Value) -> ir.Value:
        """All tokens in the place, and with the name, of an output of the graph."""
        full = self._all(value)
        full.type, full.shape = value.type, value.shape
        name, value.name = value.name, f"{value.name}_fewer"
        full.name = name
        self.restored.append(f"output {name}")
        return full

    def _place(self, place: Place, value: ir.Value, node: ir.Node) -> None:
        readers = tuple(value.uses())
        level = self.reduce(place, self.levels.get(value), value)
        if level is None:
            return
        for use in readers:
            use.node.replace_input_with(use.idx, level.tokens)
        self.layouts[level.tokens], self.levels[level.tokens] = self.layouts[value], level

    def _edit(self, node: ir.Node, level: Level) -> ir.Node:
        """Makes a node fit fewer tokens; returns the one that stands in its place."""
        step = self.steps[node]
        layout = next((each for each in step.outputs if each is not None), None)
        for side in step.sides:
            operand = node.inputs[side.index]
            assert operand is not None and layout is not None
            node.replace_input_with(side.index, side_of(level, operand, side, layout))
        if rewrite.kind(node) in ATTENTIONS and node.inputs[1] in self.levels:
            return _attend.weighted(self.model, node, level)
        if node.op_type == "Reshape" and layout is not None:
            self._reshape(node, layout, level)
        if node.op_type == "Split" and step.first is not None:
            self._split(node, level)
        if node.op_type == "Expand" and layout is not None:
            self._expand(node, layout)
        return node

    def _reshape(self, node: ir.Node, layout: Layout, level: Level) -> None:
        source = node.inputs[0]
        assert source is not None
        before = self.layouts[source]
        sizes: list[int | None] = []
        for axis, group in enumerate(layout.groups):
            fixed = [f.size for f in group if f.role != "token"]
            known = math.prod(size for size in fixed if isinstance(size, int))
            whole = all(isinstance(size, int) for size in fixed)
            if any(f.role == "token" for f in group):
                count = level.count if whole and isinstance(level.count, int) else None
                sizes.append(None if count is None else known * (count - layout.skip))
            else:
                sizes.append(known if whole else None)
            if sizes[-1] is None and axis < len(before.groups) and before.groups[axis] == group:
                sizes[-1] = 0
        shape = self._shape(node, sizes, layout, level)
        node.replace_input_with(1, shape)
        node.attributes.pop("allowzero", None)

    def _shape(self, node: ir.Node, sizes: list[int | None], layout: Layout, level: Level) -> ir.Value:
        previous = Emitter(self.model, self._before(node), f"{node.name}_sizes")
        if sizes.count(None) <= 1:
            return previous.ints(*(-1 if size is None else size for size in sizes))
        parts, left = list[ir.Value](), True
        for size, group in zip(sizes, layout.groups, strict=True):
            roles = [factor.role for factor in group]
            if size is not None or (left and len(roles) > 1):
                left = left and size is not None
                parts.append(previous.ints(-1 if size is None else size))
                continue
            axis = 0 if roles == ["batch"] else 1
            dim = previous.op("Shape", level.tokens, start=axis, end=axis + 1, dtype=ir.DataType.INT64)
            if axis == 1 and layout.skip:
                dim = previous.op("Sub", dim, previous.ints(layout.skip))
            parts.append(dim)
        return previous.op("Concat", *parts, axis=0, dtype=ir.DataType.INT64)

    def _split(self, node: ir.Node, level: Level) -> None:
        """The others, from which the first tokens are taken apart, are fewer."""
        value = node.inputs[0]
        assert value is not None
        layout = self.layouts[value]
        first = match.static_dim(node.outputs[0], layout.tokens)
        assert first is not None
        e = Emitter(self.model, self._before(node), f"{node.name}_sizes")
        if isinstance(level.count, int):
            sizes = e.ints(first, level.count - layout.skip - first)
        else:
            count = e.op("Shape", level.tokens, start=1, end=2, dtype=ir.DataType.INT64)
            rest = e.op("Sub", count, e.ints(layout.skip + first))
            sizes = e.op("Concat", e.ints(first), rest, axis=0)
        node.attributes.pop("num_outputs", None)
        node.resize_inputs(2)
        node.replace_input_with(1, sizes)

    def _expand(self, node: ir.Node, layout: Layout) -> None:
        """Axes that do not grow are 1 in what `Expand` is told, so that it mentions no number of tokens."""
        source = node.inputs[0]
        assert source is not None and source.shape is not None
        missing = len(layout.groups) - len(source.shape)
        keep = [axis >= missing and layout.has_role(axis) for axis in range(len(layout.groups))]
        e = Emitter(self.model, self._before(node), f"{node.name}_sizes")
        ones, sizes = e.constant(np.ones(len(keep), np.int64)), node.inputs[1]
        node.replace_input_with(1, e.op("Where", e.constant(np.array(keep)), ones, sizes, dtype=ones.dtype))

    def _before(self, node: ir.Node) -> ir.Node:
        """The node behind which to put what this one reads."""
        producers = [value.producer() for value in node.inputs if value is not None and value in self.levels]
        producer = producers[0]
        assert producer is not None
        return producer


def sized(layout: Layout, count: Dim) -> ir.Shape:
    """The shape of a value with this layout and ``count`` tokens."""
    dims: list[int | ir.SymbolicDim | None] = []
    for group in layout.groups:
        sizes = [count - f.skip if f.role == "token" else f.size for f in group]
        if len(sizes) == 1:
            dims.append(sizes[0])
        else:
            known = all(isinstance(size, int) for size in sizes)
            dims.append(math.prod(size for size in sizes if isinstance(size, int)) if known else None)
    return ir.Shape(dims)
