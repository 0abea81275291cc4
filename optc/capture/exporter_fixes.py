"""What the stock exporter needs to convert programs that it stumbles on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram

_VIEWS = {
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default: torch.ops.aten.reshape.default,
}


@contextmanager
def views_as_reshapes(program: ExportedProgram) -> Iterator[None]:
    """Makes every view of the program a reshape for the while.

    The exporter keeps the operators that ONNX has, and traces the program again without them; strides then
    differ from those of the eager run, for which a view was valid. A reshape computes the same for any
    strides.
    """
    changed: list[tuple[torch.fx.Node, Any]] = []
    try:
        for module in program.graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    if node.op == "call_function" and node.target in _VIEWS:
                        changed.append((node, node.target))
                        node.target = _VIEWS[node.target]
        yield
    finally:
        for node, target in changed:
            node.target = target
