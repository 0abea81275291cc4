"""Graphs inside of operators, from the calls that a translation makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import evaluator


def recorded(compute: Callable[[], Any]) -> tuple[Any, Sequence[ir.Node]]:
    """What ``compute`` returns, and the nodes that it called, which leave the graph outside."""
    recorder: Any = evaluator.default()
    mark = len(recorder.nodes)
    result = compute()
    nodes = list(recorder.nodes[mark:])
    del recorder.nodes[mark:]
    return result, nodes
