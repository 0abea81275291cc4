"""Replacements of NaN in attention probabilities that can have no NaN."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis.bounds import has_no_masked_row

_ORIGIN = "pkg.torch.onnx.fx_node"
_OPERATOR = "aten.scaled_dot_product_attention"


def drop_idle(model: ir.Model) -> None:
    """Takes away what `translations.attention` puts behind the softmax, where masks leave every row a key.

    Weights and folded constants tell, which the translation does not see yet. In the user's own code such a
    replacement stays: it also answers to NaN in the inputs.
    """
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type != "Where" or _OPERATOR not in node.metadata_props.get(_ORIGIN, ""):
            continue
        test = match.producer(node.inputs[0], "IsNaN")
        softmax = match.producer(test.inputs[0], "Softmax") if test is not None else None
        masked = match.producer(softmax.inputs[0], "Add") if softmax is not None else None
        if softmax is None or masked is None or masked.inputs[1] is None:
            continue
        if has_no_masked_row(_mask(masked.inputs[1])):
            node.outputs[0].replace_all_uses_with(softmax.outputs[0], replace_graph_outputs=True)
            for idle in (node, test):
                if idle is not None and idle.graph is not None and not idle.outputs[0].uses():
                    idle.graph.remove(idle, safe=True)


def _mask(bias: ir.Value) -> ir.Value:
    """The boolean mask that was made a bias for the scores, or the bias itself."""
    choice = match.producer(bias, "Where")
    if choice is None or choice.inputs[0] is None or match.scalar(choice.inputs[2]) != float("-inf"):
        return bias
    return choice.inputs[0] if match.scalar(choice.inputs[1]) == 0 else bias
