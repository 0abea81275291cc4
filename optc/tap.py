"""Looks at values inside a model while it runs on samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.session import open_session, run_session


def tap(
    model: ir.Model,
    names: Sequence[str],
    samples: Iterable[Mapping[str, Any]],
    *,
    threads: int | None = None,
    keep_outputs: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields, per sample, the values of the main graph with these names.

    One session runs all samples, and nothing of a sample is kept: memory does not grow with their number.
    The model is not changed. What only other values need is not computed, unless ``keep_outputs``, which
    yields the model's own outputs as well.

    Args:
        names: of graph inputs, initializers or results of nodes.
        samples: feeds by input name.
        threads: of the session.

    Raises:
        KeyError: the graph has no value of that name.
    """
    copy = model.clone()
    known: dict[str, ir.Value] = {str(value.name): value for value in copy.graph.inputs}
    known |= {str(name): value for name, value in copy.graph.initializers.items()}
    known |= {str(value.name): value for node in copy.graph for value in node.outputs if value.name}
    own = {str(value.name): str(value.name) for value in copy.graph.outputs} if keep_outputs else {}
    if not keep_outputs:
        del copy.graph.outputs[:]
    taken = set(known)
    renamed: dict[str, str] = {}
    for name in dict.fromkeys(names):
        renamed[name] = _expose(copy.graph, known[name], taken)
    session = open_session(copy, threads=threads)
    for feeds in samples:
        found = run_session(session, feeds)
        yield {name: found[output] for name, output in {**own, **renamed}.items()}


def _expose(graph: ir.Graph, value: ir.Value, taken: set[str]) -> str:
    """Makes a value an output of the graph under a new name, which also works for inputs and outputs."""
    node = ir.node("Identity", [value])
    output, number = node.outputs[0], len(graph.outputs)
    while (name := f"tap_{number}") in taken:
        number += 1
    taken.add(name)
    output.name, node.name = name, name
    output.type, output.shape = value.type, value.shape
    graph.append(node)
    graph.outputs.append(output)
    return name
