"""Keeps the runtime from seeing the pairs of QuantizeLinear and DequantizeLinear that it would misread."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.codegen.ort.pairs import MOVING, Edge, misread
from optc.opsets.constants import Names
from optc.opsets.constants import constant as new_constant
from optc.rewrite import opset

_WIDE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)  # types that the runtime's Sum takes
_TYPED_SINCE = 21  # the operator set in which QuantizeLinear names the type of its codes


def keep_apart(model: ir.Model) -> bool:
    """Rewrites what would be misread, in place, to what gives the same bits; whether there was any."""
    writer, changed = _Writer(Names(model)), False
    for node in list(model.graph.all_nodes()):
        for edge in misread(node):
            changed = writer.hide(edge) or changed
        if opset(model) >= _TYPED_SINCE and _loses_its_type(node):
            writer.pair_behind(node)
            changed = True
    return changed


def _loses_its_type(node: ir.Node) -> bool:
    """Whether the runtime would move a pair of int8 behind the node, and then make it uint8 by half.

    It does not where there is such a pair.
    """
    back = match.producer(node.inputs[0], "DequantizeLinear") if node.inputs else None
    if not match.is_op(node, *MOVING) or len(node.outputs) != 1 or back is None:
        return False
    codes, scale = back.inputs[:2]
    if (
        codes is None
        or codes.dtype != ir.DataType.INT8
        or match.is_constant(codes)
        or match.scalar(scale) is None
    ):
        return False
    output = node.outputs[0]
    return output.is_graph_output() or any(not match.is_op(r, "QuantizeLinear") for r in output.consumers())


def _dtype(back: ir.Node) -> ir.DataType | None:
    """What a DequantizeLinear gives; behind an inlined function nothing has noted it yet."""
    named = match.attr_int(back, "output_dtype", 0)
    scale = back.inputs[1]
    return ir.DataType(named) if named else None if scale is None else scale.dtype


class _Writer:
    """Edits of one model; what several nodes read is written once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._hidden: dict[ir.Value, ir.Value] = {}

    def hide(self, edge: Edge) -> bool:
        """Gives a node the same input from another node than DequantizeLinear."""
        back, value = edge.back, edge.back.outputs[0]
        if edge.reader.inputs[edge.index] is not value or _dtype(back) not in _WIDE:
            return False
        if value not in self._hidden:
            self._hidden[value] = self._computed(back) or self._copied(back)
        edge.reader.replace_input_with(edge.index, self._hidden[value])
        if not value.uses() and not value.is_graph_output() and back.graph is not None:
            back.graph.remove(back, safe=True)
        return True

    def pair_behind(self, node: ir.Node) -> None:
        """What is on the grid of int8 codes stays on it."""
        back, old = node.inputs[0].producer(), node.outputs[0]  # type: ignore[union-attr]
        assert back is not None and node.graph is not None
        scale, zero = [*back.inputs[1:], None][:2]
        if zero is None:
            zero = new_constant(node, np.zeros((), np.int8), "zero", self._names)
        name = str(old.name)
        old.name = self._names.fresh(f"{name}__moved")
        codes = self._value("codes", back, ir.DataType.INT8, old.shape)
        result = ir.Value(name=name, type=old.type, shape=old.shape)
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        pair = [
            ir.node("QuantizeLinear", [old, scale, zero], outputs=[codes], name=f"node_{codes.name}"),
            ir.node("DequantizeLinear", [codes, scale, zero], outputs=[result], name=f"node_{name}"),
        ]
        node.graph.insert_after(node, pair)

    def _copied(self, back: ir.Node) -> ir.Value:
        """A sum of one: the runtime does not remove it."""
        old = back.outputs[0]
        return self._behind(back, "Sum", [old], _dtype(back), old.shape)

    def _computed(self, back: ir.Node) -> ir.Value | None:
        """(codes - zero) * scale of constants, which the runtime folds when it loads; None: no constants."""
        codes, scale, zero = [*back.inputs, None][:3]
        scales, zeros = match.constant(scale), match.constant(zero)
        if codes is None or not match.is_constant(codes) or scales is None or codes.shape is None:
            return None
        if scale is None or scale.dtype != ir.DataType.FLOAT or (zeros is None and zero is not None):
            return None
        shape, wide = codes.shape, ir.DataType.FLOAT
        made = self._behind(back, "Cast", [codes], wide, shape, to=int(wide))
        if zeros is not None and zeros.astype(np.float32).any():
            middle = self._spread(back, zeros.astype(np.float32), "zero")
            made = self._behind(back, "Sub", [made, middle], wide, shape)
        return self._behind(back, "Mul", [made, self._spread(back, scales, "scale")], wide, shape)

    def _spread(self, back: ir.Node, array: np.ndarray, role: str) -> ir.Value:
        """Scales or zero points as they broadcast with the codes."""
        shape = back.inputs[0].shape  # type: ignore[union-attr]
        assert shape is not None
        axis = match.attr_int(back, "axis", 1) % max(1, len(shape))
        if (block := match.attr_int(back, "block_size", 0)) == 0:
            one = array.size == 1
            dims = [] if one else [-1 if i == axis else 1 for i in range(len(shape))]
            return new_constant(back, array.reshape(dims), role, self._names)
        extent = shape[axis]
        assert isinstance(extent, int)
        rows = new_constant(back, np.arange(extent, dtype=np.int64) // block, "block", self._names)
        blocks = new_constant(back, array, role, self._names)
        return self._behind(back, "Gather", [blocks, rows], ir.DataType.FLOAT, shape, axis=axis)

    def _behind(
        self,
        back: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        dtype: ir.DataType | None,
        shape: ir.Shape | None,
        **attributes: int,
    ) -> ir.Value:
        """The result of a new node in front of the DequantizeLinear, or behind it where it reads that."""
        assert back.graph is not None and dtype is not None
        made = self._value(op_type.lower(), back, dtype, shape)
        node = ir.node(op_type, inputs, attributes, outputs=[made], name=f"node_{made.name}")
        if inputs[0] is back.outputs[0]:
            back.graph.insert_after(back, node)
        else:
            back.graph.insert_before(back, node)
        return made

    def _value(self, role: str, back: ir.Node, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        name = self._names.fresh(f"{back.outputs[0].name}__{role}")
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=None if shape is None else shape.copy())
