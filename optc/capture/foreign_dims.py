"""Expressions as names of dims, of which a file may hold any: those stay that are small to calculate with.

``9**9**9**9`` is a name like any other, and sympy would multiply it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx_ir as ir

_LETTERS, _SYMBOLS, _PARENTHESES, _POWERS = 300, 10, 24, 2  # more than any exporter was seen to write
_SYMBOL = re.compile(r"[^\W\d][\w.]*")
_SMALL_POWER = re.compile(r"\*\*\s*[2-9](?!\d|\s*\*\*)")


def tame(model: ir.Model) -> None:
    """Gives dims with expressions that are not small a plain name, in place; equal ones the same name."""
    values = [value for value in _values(model) if value.shape is not None]
    taken = {dim.value for value in values for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)}
    renamed: dict[str, str] = {}
    for value in values:
        dims = [_tamed(dim, renamed, taken) for dim in value.shape or ()]
        if dims != list(value.shape or ()):
            value.shape = ir.Shape(dims)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in (model.graph, *model.graph.subgraphs()):
        yield from (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
    for function in model.functions.values():
        yield from (*function.inputs, *(v for node in function.all_nodes() for v in node.outputs))


def _tamed(
    dim: int | ir.SymbolicDim, renamed: dict[str, str], taken: set[str | None]
) -> int | ir.SymbolicDim:
    if isinstance(dim, int) or dim.value is None or is_small(dim.value):
        return dim
    if dim.value not in renamed:
        name = next(f"dim_{n}" for n in range(len(taken) + 1) if f"dim_{n}" not in taken)
        taken.add(name)
        renamed[dim.value] = name
    return ir.SymbolicDim(renamed[dim.value])


def is_small(name: str) -> bool:
    """Whether the name of a dim is a plain name, or an expression that is quick to calculate with."""
    if name.isidentifier():
        return True
    if len(name) > _LETTERS or name.count("(") > _PARENTHESES:
        return False
    powers = name.count("**")
    return (
        len({*_SYMBOL.findall(name)}) <= _SYMBOLS
        and powers <= _POWERS
        and len(_SMALL_POWER.findall(name)) == powers
    )
