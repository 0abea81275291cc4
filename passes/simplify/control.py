"""Branches that are decided: an If with a constant condition is the branch that it takes."""

from __future__ import annotations

import onnx_ir as ir

from .editor import Editor, Rule, attribute


def _decided_if(node: ir.Node, editor: Editor) -> bool:
    condition = editor.facts.array(node.inputs[0])
    if condition is None or condition.size != 1:
        return False
    branch = attribute(node, "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch", None)
    if not isinstance(branch, ir.Graph) or branch.inputs or len(branch.outputs) != len(node.outputs):
        return False
    results = list(branch.outputs)
    branch.outputs.clear()
    _move(branch, node, editor)
    for old, new in zip(list(node.outputs), results, strict=True):
        if old.uses() or old.is_graph_output():
            editor.replace(old, new)
    return True


def _move(branch: ir.Graph, before: ir.Node, editor: Editor) -> None:
    """Moves the contents of a branch in front of its If, under names that nothing else has."""
    graph = before.graph
    assert graph is not None
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = editor.fresh_name(name)
        editor.model.graph.register_initializer(value)
    nodes = list(branch)
    branch.remove(nodes)
    for node in nodes:
        node.name = editor.fresh_name(node.name or node.op_type)
        for output in node.outputs:
            output.name = editor.fresh_name(output.name) if output.name else output.name
    graph.insert_before(before, nodes)
    editor.enqueue(nodes)


RULES = (Rule("decided if", ("If",), _decided_if),)
