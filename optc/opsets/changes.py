"""Where an operator of ONNX changed its meaning or its form between two opsets, and what to do about it.

Every declaration from opset 7 to 26 was read; what is not in the table took more types, or an optional input
or attribute whose absence means what the operator did before. The pools that opsets 19 and 22 make clear
(windows that reach or start past the end) are computed alike by ONNX Runtime in all versions, as was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .constants import Names, constant

REVIEWED = 26
"""The newest opset that the table covers; later declarations must not differ in more than types."""

Edit = Callable[[ir.Node, Names], None]
Change = Callable[[ir.Node], "Edit | str | None"]

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}
_OF_A_FUNCTION = "its attribute {} is a parameter of a function"


def _to_inputs(*names: str) -> Change:
    """Attributes that became inputs, after the first one, in this order."""

    def change(node: ir.Node) -> Edit | str | None:
        for name in names:
            if name in node.attributes and node.attributes[name].is_ref():
                return _OF_A_FUNCTION.format(name)
        return edit if any(name in node.attributes for name in names) else None

    def edit(node: ir.Node, fresh: Names) -> None:
        given = {name: node.attributes.pop(name) for name in names if name in node.attributes}
        last = max(names.index(name) for name in given)
        node.resize_inputs(last + 2)
        for position, name in enumerate(names[: last + 1]):
            if name in given:
                array = np.array(given[name].value, np.int64).reshape(-1)
                node.replace_input_with(position + 1, constant(node, array, name, fresh))

    return change


def _numbers_to_inputs(*names: str) -> Change:
    """The same for single numbers in the type of the first input."""

    def change(node: ir.Node) -> Edit | str | None:
        given = [name for name in names if name in node.attributes]
        if any(node.attributes[name].is_ref() for name in given):
            return _OF_A_FUNCTION.format(", ".join(given))
        x = node.inputs[0]
        if given and (x is None or x.dtype != ir.DataType.FLOAT):
            return "only known for float"
        return edit if given else None

    def edit(node: ir.Node, fresh: Names) -> None:
        first = 1 + next(
            (i for i, value in enumerate(node.inputs[1:]) if value is None), len(node.inputs) - 1
        )
        for offset, name in enumerate(names):
            if name in node.attributes:
                number = np.array(node.attributes.pop(name).as_float(), np.float32)
                node.resize_inputs(max(len(node.inputs), first + offset + 1))
                node.replace_input_with(first + offset, constant(node, number, name, fresh))

    return change


def _pad(node: ir.Node) -> Edit | str | None:
    pads, value = _to_inputs("pads")(node), _numbers_to_inputs("value")(node)
    if isinstance(pads, str) or isinstance(value, str):
        return pads if isinstance(pads, str) else value

    def edit(node: ir.Node, fresh: Names) -> None:
        for each in (pads, value):
            if each is not None:
                each(node, fresh)

    return edit


def _without(name: str, harmless: object) -> Change:
    """An attribute that is gone; only one value of it meant what is left."""

    def change(node: ir.Node) -> Edit | str | None:
        attribute = node.attributes.get(name)
        if attribute is None:
            return None
        if harmless is not None and (attribute.is_ref() or attribute.value != harmless):
            return f"{name} is gone"
        return edit

    def edit(node: ir.Node, fresh: Names) -> None:
        node.attributes.pop(name, None)

    return change


def _old_default(name: str, value: str | int) -> Change:
    """A new or changed default; what was left out keeps its meaning when it is written out."""

    def edit(node: ir.Node, fresh: Names) -> None:
        node.attributes.add(ir.convenience.convert_attribute(name, value))

    return lambda node: None if name in node.attributes else edit


def _only_last_axis(node: ir.Node) -> Edit | str | None:
    """Before opset 13 the softmax family flattened its input from ``axis`` on; the last axis is alone."""
    attribute, x = node.attributes.get("axis"), node.inputs[0]
    rank = None if x is None or x.shape is None else len(x.shape)
    if attribute is not None and attribute.is_ref():
        return _OF_A_FUNCTION.format("axis")
    axis = 1 if attribute is None else attribute.as_int()
    if axis != -1 and (rank is None or axis % max(rank, 1) != rank - 1):
        return "it flattened its input from the axis on"
    return _set("axis", -1)


def _set(name: str, value: str | int) -> Edit:
    def edit(node: ir.Node, fresh: Names) -> None:
        node.attributes.add(ir.convenience.convert_attribute(name, value))

    return edit


def _split_evenly(node: ir.Node) -> Edit | str | None:
    """Without sizes, the number of parts must be said."""

    def edit(node: ir.Node, fresh: Names) -> None:
        if len(node.inputs) < 2 or node.inputs[1] is None:
            node.attributes.add(ir.AttrInt64("num_outputs", len(node.outputs)))

    return edit if len(node.inputs) < 2 or node.inputs[1] is None else None


def _grid_sample(node: ir.Node) -> Edit | str | None:
    attribute = node.attributes.get("mode")
    if attribute is None:
        return None  # both defaults mean the same
    if attribute.is_ref():
        return _OF_A_FUNCTION.format("mode")
    mode = attribute.as_string()
    return _set("mode", _GRID_MODES[mode]) if mode in _GRID_MODES else None


def _dft(node: ir.Node) -> Edit | str | None:
    if "axis" in node.attributes and node.attributes["axis"].is_ref():
        return _OF_A_FUNCTION.format("axis")

    def edit(node: ir.Node, fresh: Names) -> None:
        attribute = node.attributes.pop("axis", None)
        axis = np.array(1 if attribute is None else attribute.as_int(), np.int64)
        node.resize_inputs(3)
        node.replace_input_with(2, constant(node, axis, "axis", fresh))

    return edit


def _stops(reason: str) -> Change:
    return lambda node: reason


def _stops_if(name: str, harmless: tuple[object, ...], reason: str) -> Change:
    """Where an attribute has another value than these, the operator means something else."""

    def change(node: ir.Node) -> Edit | str | None:
        attribute = node.attributes.get(name)
        if attribute is None:
            return None
        value = None if attribute.is_ref() else attribute.value
        value = value.decode() if isinstance(value, bytes) else value
        return None if value in harmless else reason

    return change


def _one_output(reason: str) -> Change:
    return lambda node: reason if len(node.outputs) > 1 else None


CHANGES: Mapping[tuple[str, int], Change] = {
    **{(f"Reduce{name}", 18): _to_inputs("axes") for name in _REDUCTIONS},
    **{(name, 13): _to_inputs("axes") for name in ("ReduceSum", "Squeeze", "Unsqueeze")},
    **{(name, 13): _only_last_axis for name in ("Softmax", "LogSoftmax", "Hardmax")},
    ("BatchNormalization", 9): _without("spatial", 1),
    ("BatchNormalization", 14): _one_output("its statistics are other outputs"),
    ("Clip", 11): _numbers_to_inputs("min", "max"),
    ("ConvTranspose", 11): _stops_if("auto_pad", ("NOTSET", "VALID"), "it pads the other side"),
    ("DFT", 20): _dft,
    ("Dropout", 10): _one_output("the type of its mask changed"),
    ("Dropout", 12): _without("ratio", None),  # it does nothing unless it is told to train
    ("GridSample", 20): _grid_sample,
    ("GroupNormalization", 21): _stops("it scales channels, where it scaled groups"),
    ("Pad", 11): _pad,
    ("Resize", 11): _stops("it samples at other places"),
    ("RoiAlign", 16): _old_default("coordinate_transformation_mode", "output_half_pixel"),
    ("Scan", 9): _stops("it has no batch axis any more"),
    ("Slice", 10): _to_inputs("starts", "ends", "axes"),
    ("Split", 13): _to_inputs("split"),
    ("Split", 18): _split_evenly,
    ("TopK", 10): _to_inputs("k"),
    ("Upsample", 9): _stops("its scales became an input"),
}
