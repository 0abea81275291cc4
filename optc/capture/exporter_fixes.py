"""What the stock exporter needs to convert programs that it stumbles on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.export import ExportedProgram

_aten = torch.ops.aten


@contextmanager
def adapted(program: ExportedProgram) -> Iterator[None]:
    """Rewrites the program, for the while, into an equal one that the exporter can convert."""
    with ExitStack() as undo:
        for module in program.graph_module.modules():
            if not isinstance(module, torch.fx.GraphModule):
                continue
            for node in list(module.graph.nodes):
                if node.op == "call_function":
                    _view_as_reshape(node, undo)
                    _promote_subtrahend(node, undo)
        _drop_constant_outputs(program.graph_module.graph.output_node(), undo)
        yield


def _view_as_reshape(node: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter keeps the operators that ONNX has, and traces the program again without decomposing them.

    Strides then differ from those of the eager run, for which the view was valid. A reshape computes the same
    for any strides.
    """
    if node.target in (_aten.view.default, _aten._unsafe_view.default):
        undo.callback(setattr, node, "target", node.target)
        node.target = _aten.reshape.default


def _promote_subtrahend(node: torch.fx.Node, undo: ExitStack) -> None:
    """``1.0 - mask`` with an integer mask: the exporter cannot promote types when a number comes first."""
    if node.target is not _aten.rsub.Scalar or not isinstance(node.args[0], torch.fx.Node):
        return
    tensor, dtype = node.args[0], node.meta["val"].dtype
    if tensor.meta["val"].dtype == dtype:
        return
    with node.graph.inserting_before(node):
        cast = node.graph.call_function(_aten._to_copy.default, (tensor,), {"dtype": dtype})
    cast.meta = {key: value for key, value in node.meta.items() if key != "val"}
    cast.meta["val"] = tensor.meta["val"].to(dtype)
    node.replace_input_with(tensor, cast)
    undo.callback(node.graph.erase_node, cast)
    undo.callback(node.replace_input_with, cast, tensor)


def _drop_constant_outputs(output: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter takes every output that is not None for a tensor; the signature keeps the constants."""
    results = output.args[0]
    if not isinstance(results, (tuple, list)) or all(isinstance(r, torch.fx.Node) for r in results):
        return
    undo.callback(setattr, output, "args", output.args)
    output.args = (tuple(r if isinstance(r, torch.fx.Node) else None for r in results),)
