"""Tables of embeddings as int8 rows, each with a scale: what is looked up becomes float behind the lookup.

A fourth of the bytes in the file and in memory. A row is read alone, so it can have a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir

from optc import match
from optc.passbase import Skip

from .static.graph import Graph
from .static.grid import quantized_weight, weight_scales

_SMALL = 2**16  # elements: below, there is little to save
_NARROW = 16  # columns: below, scales take up too much of what is saved
_LARGEST = 127  # codes are only scaled, never summed up: no reason for less


class Table(NamedTuple):
    """A constant float32 matrix whose rows are looked up; ``lookups`` are all that read it."""

    value: ir.Value
    lookups: tuple[ir.Node, ...]

    @property
    def name(self) -> str:
        """What reports and the option ``exclude`` call it."""
        return str(self.value.name)

    @property
    def names(self) -> list[str]:
        """Its name and those of its lookups."""
        return [self.name, *(str(node.name) for node in self.lookups)]


def find(model: ir.Model) -> tuple[list[Table], list[Skip]]:
    """The large tables of the main graph, and those that must stay, with the reason."""
    found, skips = list[Table](), list[Skip]()
    for value in list(model.graph.initializers.values()):
        readers = [node for node, index in value.uses() if _is_lookup(node, index)]
        if not readers or not _is_large(value):
            continue
        if len(readers) < len(list(value.uses())) or value.is_graph_output():
            skips.append(Skip(str(value.name), "table left in float: it is not only looked up"))
        elif any(node.graph is not model.graph for node in readers):
            skips.append(Skip(str(value.name), "table left in float: it is looked up in a subgraph"))
        else:
            found.append(Table(value, tuple(dict.fromkeys(readers))))
    return found, skips


def quantize(model: ir.Model, leave: Callable[[str], str | None]) -> tuple[int, list[Skip]]:
    """Rewrites lookups in place; returns of how many tables, and what stays with the reason.

    Args:
        leave: a reason why what has this name (of a table or a lookup) stays in float, or None.
    """
    tables, skips = find(model)
    graph, count = Graph(model), 0
    for table in tables:
        if (reason := next((why for name in table.names if (why := leave(name))), None)) is not None:
            skips.append(Skip(table.name, f"table left in float: {reason}"))
            continue
        _rewrite(table, graph)
        count += 1
    graph.drop_unused()
    return count, skips


def _is_lookup(node: ir.Node, index: int) -> bool:
    return match.is_op(node, "Gather") and index == 0 and match.attr_int(node, "axis", 0) in (0, -2)


def _is_large(value: ir.Value) -> bool:
    if not match.is_constant(value) or value.dtype != ir.DataType.FLOAT or match.rank(value) != 2:
        return False
    rows, columns = match.static_dim(value, 0), match.static_dim(value, 1)
    return rows is not None and columns is not None and columns >= _NARROW and rows * columns >= _SMALL


def _rewrite(table: Table, graph: Graph) -> None:
    matrix, name = match.constant(table.value), table.name
    assert matrix is not None
    scales = weight_scales(matrix, 0, limit=_LARGEST)
    codes = graph.constant(quantized_weight(matrix, scales, 0, limit=_LARGEST), f"{name}_quantized")
    steps = graph.constant(scales[:, None], f"{name}_scale")
    for node in table.lookups:
        old, index = node.outputs[0], node.inputs[1]
        label, shape = str(old.name), old.shape
        by_row = None if shape is None else ir.Shape([*shape[:-1], 1])
        make, to_float = graph.make, int(ir.DataType.FLOAT)
        rows = make("Gather", [codes, index], f"{label}_codes", ir.DataType.INT8, shape, axis=0)
        step = make("Gather", [steps, index], f"{label}_step", ir.DataType.FLOAT, by_row, axis=0)
        floats = make("Cast", [rows], f"{label}_cast", ir.DataType.FLOAT, shape, to=to_float)
        result = make("Mul", [floats, step], f"{label}_embedded", ir.DataType.FLOAT, shape)
        graph.place_before(node, rows, step, floats, result)
        graph.replace(old, result)
        graph.remove(node)
