"""Operands with a number for every token follow the tokens, in whatever order their axes stand."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle
from optc.analysis.axes_layout import Factor, Layout, Side
from optc.passes.merge_tokens._emit import Emitter
from optc.passes.merge_tokens._level import Level, side_of

_SIZES = {"B": 2, "T": 5, "D": 3, "1": 1}
_ROLES = {"B": "batch", "T": "token", "D": ""}
_PLACES = np.array([[4, 0, 2], [1, 1, 3]], np.int64)  # [batch, tokens left]: the original token of each

CASES = {
    "a table": ("BTD", "TD", None),
    "a table for every sample": ("BTD", "1TD", None),
    "a table beside the batch": ("TBD", "T1D", None),
    "a table behind the width": ("BDT", "DT", None),
    "its own batch": ("BTD", "BTD", 0),
    "its own batch, one column": ("BTD", "BT1", 0),
    "its own batch behind the tokens": ("TBD", "TBD", 1),
    "its own batch at the end": ("DTB", "DTB", 2),
    "its own batch around the width": ("TDB", "T1B", 2),
}


def _layout(axes: str) -> Layout:
    return Layout(tuple((Factor(_ROLES[axis], ir.SymbolicDim(axis)),) for axis in axes))


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_the_tokens_that_are_left(name: str) -> None:
    axes, own, batch = CASES[name]
    table = np.random.default_rng(0).normal(size=[_SIZES[axis] for axis in own]).astype(np.float32)
    value = ir.val("table", ir.DataType.FLOAT, table.shape)
    index = ir.val("index", ir.DataType.INT64, [2, 3, 1])
    anchor = ir.node("Identity", [value], name="anchor")
    model = ir.Model(
        ir.Graph([value, index], [], nodes=[anchor], opset_imports={"": 20}, name="g"), ir_version=10
    )
    level = Level(None, 3, value, None, None, Emitter(model, anchor, "left"), index, index)
    picked = side_of(level, value, Side(1, own.index("T"), batch), _layout(axes))
    model.graph.outputs.append(picked)
    picked.name = "picked"
    [found] = oracle.run(model, {"table": table, "index": _PLACES[..., None]}).values()

    whole = np.broadcast_to(table, [_SIZES[axis] for axis in axes])
    samples = np.moveaxis(whole, [axes.index("B"), axes.index("T")], [0, 1])
    expected = np.stack([sample[places] for sample, places in zip(samples, _PLACES, strict=True)])
    expected = np.moveaxis(expected, [0, 1], [axes.index("B"), axes.index("T")])
    np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected)
