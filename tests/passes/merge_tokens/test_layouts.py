"""Streams become [batch, tokens, width] and come back, whatever the order of their axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle
from optc.analysis.axes_layout import Factor, Layout
from optc.passes.merge_tokens._emit import Emitter
from optc.passes.merge_tokens._level import canonical, restored_layout

_SIZES = {"B": 2, "T": 5, "D": 3}
_ROLES = {"B": "batch", "T": "token", "D": ""}


@pytest.mark.parametrize("axes", ["BTD", "TBD", "DTB", "TDB", "BDT", "DBT", "TD", "DT"])
def test_there_and_back(axes: str) -> None:
    stream = np.random.default_rng(0).normal(size=[_SIZES[axis] for axis in axes]).astype(np.float32)
    value = ir.val("stream", ir.DataType.FLOAT, stream.shape)
    layout = Layout(tuple((Factor(_ROLES[axis], ir.SymbolicDim(axis)),) for axis in axes))
    anchor = ir.node("Identity", [value], name="anchor")
    model = ir.Model(ir.Graph([value], [], nodes=[anchor], opset_imports={"": 20}, name="g"), ir_version=10)
    emitter = Emitter(model, anchor, "left")
    plain = emitter.op("Identity", canonical(emitter, value, layout))
    back = emitter.op("Identity", restored_layout(emitter, plain, layout))
    model.graph.outputs.extend([plain, back])
    plain.name, back.name = "plain", "back"
    found = oracle.run(model, {"stream": stream})

    samples = stream if "B" in axes else stream[None]
    named = axes if "B" in axes else "B" + axes
    np.testing.assert_array_equal(found["plain"], np.transpose(samples, [named.index(a) for a in "BTD"]))
    np.testing.assert_array_equal(found["back"], stream)
