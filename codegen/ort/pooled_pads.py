"""Pads that the runtime must not take into the pool behind them.

ONNX Runtime's optimizer folds a Pad of zeros into the padding of a MaxPool, for which padding counts as the
lowest number: where values are negative, the result changes. It looks through casts, and at what is left
after it dropped nodes that do nothing. It does not touch a Pad that names its axes, or a MaxPool that gives
indices, and neither changes what is computed.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc.match import constant
from optc.opsets.constants import Names
from optc.opsets.constants import constant as new_constant
from optc.rewrite import opset

_ALL_AXES_SINCE, _INDICES_SINCE = 18, 8
_MAY_VANISH = frozenset(
    ("Cast", "Concat", "Dropout", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze")
    + ("Tile", "Transpose", "Unsqueeze")
)


def keep_apart(model: ir.Model) -> None:
    """Marks every Pad whose zeros a MaxPool reads, in place."""
    version, names = opset(model), Names(model)
    seen: set[ir.Node] = set()
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        for pool in [node for node in body.all_nodes() if node.op_type == "MaxPool" and node.domain == ""]:
            pad = _pad_before(pool, seen)
            if pad is None:
                continue
            if version >= _ALL_AXES_SINCE:
                _name_axes(pad, names)
            elif version >= _INDICES_SINCE and len(pool.outputs) == 1:
                _give_indices(pool, names)


def _pad_before(pool: ir.Node, seen: set[ir.Node]) -> ir.Node | None:
    value = pool.inputs[0]
    node = None if value is None else value.producer()
    while node is not None and node.domain == "" and node.op_type in _MAY_VANISH and node not in seen:
        seen.add(node)
        value = node.inputs[0] if node.inputs else None
        node = None if value is None else value.producer()
    return node if node is not None and node.op_type == "Pad" and node.domain == "" else None


def _name_axes(pad: ir.Node, names: Names) -> None:
    """All axes by number, which is what leaving them out means."""
    pads = pad.inputs[1]
    amounts = constant(pads)
    if pads is None or amounts is None or (len(pad.inputs) > 3 and pad.inputs[3] is not None):
        return  # the runtime folds constant pads of all axes only
    axes = np.arange(amounts.size // 2, dtype=np.int64)
    pad.resize_inputs(4)
    pad.replace_input_with(3, new_constant(pad, axes, "axes", names))


def _give_indices(pool: ir.Node, names: Names) -> None:
    pool.resize_outputs(2)
    indices = pool.outputs[1]
    indices.name = names.fresh(f"{pool.outputs[0].name}__indices")
    indices.shape, indices.type = pool.outputs[0].shape, ir.TensorType(ir.DataType.INT64)
