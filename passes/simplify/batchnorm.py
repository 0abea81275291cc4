"""BatchNormalization at inference, folded into the weights of the linear node before it.

``scale * (y - mean) / sqrt(var + eps) + shift`` is an affine map per channel, so it goes into the weights and
bias of the convolution or matrix product that makes ``y``; computed in float64 (Jacob et al., "Quantization
and training of neural networks for efficient integer-arithmetic-only inference", section 3.2).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .affine import FLOATS, constant, linear
from .editor import Editor, Rule, attribute, operand, producer


def _fold(node: ir.Node, editor: Editor) -> bool:
    value = node.inputs[0]
    before = producer(value, "Conv", "ConvTranspose", "Gemm", "MatMul", "Add")
    if before is None or value is None:
        return False
    if (reason := _training(node, editor)) is not None:
        return editor.skip(node, f"batch norm not folded: {reason}")
    affine = _affine(node, editor)
    if affine is None:
        return editor.skip(node, "batch norm not folded: its statistics are no finite constants")
    if not editor.only_reader(value, node):
        return editor.skip(
            node, f"batch norm not folded: the output of the {before.op_type} has another reader"
        )
    if before.op_type in ("Conv", "ConvTranspose"):
        return _into_convolution(before, node, *affine, editor)
    return _into_product(value, node, *affine, editor)


def _training(node: ir.Node, editor: Editor) -> str | None:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "its running statistics are read"
    if attribute(node, "training_mode", 0) or (editor.opset < 14 and len(node.outputs) > 1):
        return "it is in training mode"
    if editor.opset < 9:
        return "its operator set is older than 9"
    return None


def _affine(node: ir.Node, editor: Editor) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and shift per channel, float64."""
    parameters = [constant(value, editor) for value in node.inputs[1:5]]
    if len(parameters) != 4 or editor.facts.dtype(node.inputs[0]) not in FLOATS:
        return None
    wide = [array.astype(np.float64) for array in parameters if array is not None]
    if len(wide) != 4:
        return None
    scale, shift, mean, variance = wide
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        shift = shift - mean * factor
    return (factor, shift) if np.isfinite(factor).all() and np.isfinite(shift).all() else None


def _into_convolution(
    convolution: ir.Node, node: ir.Node, factor: np.ndarray, shift: np.ndarray, editor: Editor
) -> bool:
    weight, bias = constant(convolution.inputs[1], editor), constant(operand(convolution, 2), editor)
    if weight is None or (bias is None and operand(convolution, 2) is not None):
        return editor.skip(node, "batch norm not folded: the weights of the convolution are no constants")
    scaled = weight * _along_output_channels(convolution, weight, factor)
    shifted = shift if bias is None else bias * factor + shift
    name, old = node.outputs[0].name, [operand(convolution, 1), operand(convolution, 2)]
    new = [
        editor.constant(scaled.astype(weight.dtype), f"{name}_weight"),
        editor.constant(shifted.astype(weight.dtype), f"{name}_bias"),
    ]
    operands = [convolution.inputs[0], *new]
    folded = editor.add(node, convolution.op_type, operands, convolution.attributes, like=convolution)
    editor.replace(node.outputs[0], folded)
    for before, after in zip(old, new, strict=True):
        _hand_over_name(before, after)
    return True


def _hand_over_name(old: ir.Value | None, new: ir.Value) -> None:
    """A weight that nothing reads any more leaves its name to the one in its place."""
    if old is None or not old.is_initializer() or old.uses() or old.is_graph_output():
        return
    name, graph = old.name, old.graph
    assert name is not None and graph is not None
    del graph.initializers[name]
    new.name = name


def _along_output_channels(convolution: ir.Node, weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The factors, shaped to scale the weights [M, C/group, ...] or, transposed, [C, M/group, ...]."""
    spatial = (1,) * (weight.ndim - 2)
    if convolution.op_type == "Conv":
        return factor.reshape(-1, 1, *spatial)
    groups = int(attribute(convolution, "group", 1))
    rows = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return rows.reshape(weight.shape[0], weight.shape[1], *spatial)


def _into_product(
    value: ir.Value, node: ir.Node, factor: np.ndarray, shift: np.ndarray, editor: Editor
) -> bool:
    found = linear(value, editor)
    if found is None:
        return editor.skip(node, "batch norm not folded: the weights before it are no constants")
    if found.other_reader(editor):
        return editor.skip(node, "batch norm not folded: the matrix product before it has another reader")
    if editor.facts.rank(value) != 2:
        return editor.skip(node, "batch norm not folded: its channels are not the columns of the product")
    dtype = np.dtype(editor.facts.dtype(value).numpy())  # type: ignore[union-attr]
    weight = (found.weight * factor).astype(dtype)
    bias = (shift if found.bias is None else found.bias * factor + shift).astype(dtype)
    operands = [
        found.source,
        editor.constant(weight, f"{node.outputs[0].name}_weight"),
        editor.constant(bias, f"{node.outputs[0].name}_bias"),
    ]
    return editor.replace(node.outputs[0], editor.add(node, "Gemm", operands))


RULES = (Rule("batch norm folded", ("BatchNormalization",), _fold),)
