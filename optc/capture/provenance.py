"""Where in the user's code a node comes from."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import TracebackType

import onnx_ir as ir
import torch

SOURCE = "optc.source"  # node metadata: "file:line" of the innermost frame of model code

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_STACK = "pkg.torch.onnx.stack_trace"


def keep_sources_only(model: ir.Model) -> None:
    """Replaces the exporter's metadata by one short entry per node, so that models stay small."""
    model.metadata_props.clear()
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        graph.metadata_props.clear()
        values: list[ir.Value] = [*graph.inputs]
        if isinstance(graph, ir.Graph):
            values += graph.initializers.values()
        for node in ir.traversal.RecursiveGraphIterator(graph):
            source = innermost(node.metadata_props.get(_STACK, ""))
            node.metadata_props.clear()
            node.meta.clear()
            node.doc_string = None
            if source:
                node.metadata_props[SOURCE] = source
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            value.meta.clear()


@cache
def innermost(stack: str) -> str | None:
    """``file:line`` of the last frame of a printed stack that is model code; relative to sys.path."""
    frames = [(file, line) for file, line in _FRAME.findall(stack) if is_model_code(file)]
    return f"{_importable(frames[-1][0])}:{frames[-1][1]}" if frames else None


def user_line(error: BaseException) -> str | None:
    """File and line of the deepest frame of model code that the error came through, its causes included."""
    while error is not None:
        frames = [f for f in _frames(error.__traceback__) if is_model_code(f[0])]
        if frames:
            return f"{frames[-1][0]}:{frames[-1][1]}"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return None


@cache
def is_model_code(file: str) -> bool:
    """Neither torch, nor optc, nor the standard library, nor generated code."""
    if not file.endswith(".py") or not Path(file).is_absolute():
        return False
    return not any(file.startswith(root) for root in _not_model_code())


@cache
def _not_model_code() -> tuple[str, ...]:
    library = sysconfig.get_paths()["stdlib"]
    packages = sysconfig.get_paths()["purelib"]
    roots = [Path(torch.__file__).parent, Path(__file__).parents[1], *(Path(packages) / n for n in _TOOLS)]
    stdlib = [p for p in Path(library).iterdir() if p.name != "site-packages"]
    return tuple(f"{p}/" if p.is_dir() else str(p) for p in (*roots, *stdlib))


_TOOLS = ("onnxscript", "onnx_ir", "sympy", "numpy", "onnx")


def _frames(traceback: TracebackType | None) -> Iterable[tuple[str, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


@cache
def _importable(file: str) -> str:
    """The path as an import would spell it, so that it does not say where the package was installed."""
    roots = [root for root in sys.path if root and file.startswith(f"{root.rstrip('/')}/")]
    return str(Path(file).relative_to(max(roots, key=len))) if roots else file
