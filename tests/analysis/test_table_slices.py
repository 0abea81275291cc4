"""Rows of a table from the end, one for each position: ``table[:, max(0, W - n):]``, as MPT has it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from optc.analysis import shapes

FAR = 2**63 - 1
HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
CONSTANTS = f"int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] far = {{{FAR}}}"


def cut(start: str, *, table: str = "float[4,9]", slicing: str = "Slice(table, start, far, one)") -> ir.Model:
    """``y`` is what the table leaves from ``start`` on, computed of ``n``, the second axis of ``x``."""
    model = ir.from_onnx_text(
        f"""{HEAD} g (float[B,S] x, {table} table) => (y) <{CONSTANTS},
            int64[1] nine = {{9}}, int64[1] minus = {{-1}}, int64[1] wide = {{12}}
        > {{ size = Shape(x)  n = Slice(size, one, two)  {start}  y = {slicing} }}"""
    )
    shapes.infer(model)
    return model


def shape(model: ir.Model) -> str:
    return str(model.graph.outputs[0].shape)


FROM_THE_END = "rest = Sub(nine, n)  start = Max(rest, zero)"


def test_as_many_rows_as_positions() -> None:
    assert shape(cut(FROM_THE_END)) == "[4,Min(9, S)]"
    twice = "double = Add(n, n)  rest = Sub(nine, double)  start = Max(zero, rest)"
    assert shape(cut(twice)) == "[4,Min(9, 2*S)]"


@pytest.mark.parametrize("length", [1, 4, 9, 12])
def test_the_runtime_agrees(length: int) -> None:
    feeds = {"x": np.zeros((2, length), np.float32), "table": np.zeros((4, 9), np.float32)}
    session = ort.InferenceSession(ir.to_proto(cut(FROM_THE_END)).SerializeToString())
    [y] = session.run(None, feeds)
    assert y.shape == (4, min(9, length))


def test_one_row_is_cut_from_its_only_position() -> None:
    """``max(0, 1 - n)`` is 0 for every length, so nothing is cut."""
    assert shape(cut("rest = Sub(one, n)  start = Max(rest, zero)", table="float[4,1]")) == "[4,1]"


@pytest.mark.parametrize(
    "start",
    [
        "start = Sub(nine, n)",
        "rest = Sub(wide, n)  start = Max(rest, zero)",
        "rest = Sub(n, nine)  start = Max(rest, zero)",
        "rest = Sub(nine, n)  start = Min(rest, zero)",
        "rest = Sub(nine, n)  start = Max(rest, one)",
        "more = Add(n, minus)  rest = Sub(nine, more)  start = Max(rest, zero)",
    ],
    ids=["may be negative", "another width", "from the front", "the least", "at least 1", "perhaps none"],
)
def test_other_starts_leave_an_unknown_number(start: str) -> None:
    model = cut(start)
    heads, rows = model.graph.outputs[0].shape
    assert heads == 4
    assert (
        isinstance(rows, ir.SymbolicDim)
        and "S" not in rows.free_symbols()
        and "Min" not in (rows.value or "")
    )


@pytest.mark.parametrize(
    "slicing",
    [
        "Slice(table, start, far, one, two)",
        "Slice(table, start, nine, one)",
        "Slice(table, start, n, one)",
    ],
    ids=["every second", "a number as the end", "an end of its own"],
)
def test_other_slices_leave_an_unknown_number(slicing: str) -> None:
    heads, rows = cut(FROM_THE_END, slicing=slicing).graph.outputs[0].shape
    assert heads == 4 and isinstance(rows, ir.SymbolicDim) and "Min" not in (rows.value or "")


def test_axes_from_the_back_and_none_at_all() -> None:
    assert shape(cut(FROM_THE_END, slicing="Slice(table, start, far, minus)")) == "[4,Min(9, S)]"
    assert shape(cut(FROM_THE_END, table="float[9,4]", slicing="Slice(table, start, far)")) == "[Min(9, S),4]"


def test_axes_given_at_run_time_may_be_any() -> None:
    model = ir.from_onnx_text(
        f"""{HEAD} g (float[4,9] table, int64[1] start, int64[1] axis) => (y) <{CONSTANTS}>
            {{ y = Slice(table, start, far, axis) }}"""
    )
    shapes.infer(model)
    assert not any(isinstance(dim, int) for dim in model.graph.outputs[0].shape)


def test_of_numbers_that_are_not_known_none_is_the_largest() -> None:
    """What the library makes up for an unknown number may be negative, so ``max(0, it)`` is not it."""
    model = ir.from_onnx_text(
        f"""{HEAD} g (int64[1] given) => (y) <{CONSTANTS}> {{
            a = Unsqueeze(given, zero)  b = Squeeze(a, zero)  y = Max(b, zero)
        }}"""
    )
    shapes.infer(model)
    [known] = shapes.constant_ints(model.graph.outputs[0]) or ["unknown"]
    assert known != shapes.constant_ints(model.graph[1].outputs[0])
