"""Runs a model over samples and lets probes see values inside it: all of them in one run per sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from optc import newnode
from optc.errors import UserError
from optc.newnode import New
from optc.passbase import Feeds
from optc.rewrite import opset
from optc.session import ORT_ERRORS, open_session, run_session

from .probes import Probe

# The runtime's own fusion of pairs would compute other values than the graph says, and with the probes behind
# what a model has had quantized before it makes programs that it refuses (float8, scales along the rows).
_AS_WRITTEN = {"session.disable_quant_qdq": "1"}

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def _silent(items: Iterable[Any], description: str) -> Iterable[Any]:
    return items


def observe(
    model: ir.Model,
    probes: Mapping[str, Sequence[Probe]],
    samples: Iterable[Feeds],
    *,
    threads: int | None = None,
    progress: Progress = _silent,
) -> int:
    """Shows every probe its value on every sample, and returns the number of samples.

    The model is copied and gets the reductions that the probes ask for as outputs, in place of its own; so
    what goes to Python are a few numbers per value, and nothing is kept from one sample to the next. A graph
    that shares nothing with the outputs asked for is not computed.

    Args:
        model: plain or with fused functions; it is not changed.
        probes: by name of a float value of the main graph (an input or what a node computes); the value has
            a known rank where a probe looks at one axis.
        samples: feeds by input name; they are gone through once.

    Raises:
        UserError: the model does not run on a sample.
        KeyError: there is no such value in the main graph.
    """
    if not probes:
        return 0
    copy = model.clone()
    wanted = _attach(copy, probes)
    session = _session(copy, threads)
    count = 0
    for feeds in progress(samples, "calibrating"):
        try:
            found = run_session(session, feeds)
        except ORT_ERRORS:
            found = _run_as_written(copy, feeds, count)
        for probe, names in wanted:
            probe.update([found[name] for name in names])
        count += 1
    return count


def _session(copy: ir.Model, threads: int | None) -> ort.InferenceSession:
    """Optimized, or else as written: the runtime's optimizer fails on some models that run."""
    try:
        return open_session(copy, threads=threads, options=_AS_WRITTEN)
    except ORT_ERRORS:
        return open_session(copy, threads=threads, optimize=False)


def _run_as_written(copy: ir.Model, feeds: Feeds, number: int) -> dict[str, Any]:
    """What the model gives without the runtime's optimizer, which breaks some models for some sizes."""
    try:
        return run_session(open_session(copy, optimize=False), feeds)
    except ORT_ERRORS as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"the model fails on calibration sample {number}: {reason}",
            hint="check the shapes and values of the calibration data",
        ) from error


def _attach(copy: ir.Model, probes: Mapping[str, Sequence[Probe]]) -> list[tuple[Probe, list[str]]]:
    """Adds what the probes ask for to the graph; the probes with the names of their outputs."""
    graph, version = copy.graph, opset(copy)
    values = {value.name: value for value in graph.inputs}
    values |= {value.name: value for node in graph for value in node.outputs}
    graph.outputs.clear()
    wanted = []
    for name, asked in probes.items():
        value = _as_float(values[name], graph)
        for probe in asked:
            outputs = _append(graph, probe.nodes(value, version))
            graph.outputs.extend(outputs)
            wanted.append((probe, [str(output.name) for output in outputs]))
    return wanted


def _as_float(value: ir.Value, graph: ir.Graph) -> ir.Value:
    if value.dtype in (ir.DataType.FLOAT, None):
        return value
    to = {"to": int(ir.DataType.FLOAT)}
    return _append(graph, [New("Cast", (value,), ir.DataType.FLOAT, value.shape, to)])[0]


def _append(graph: ir.Graph, asked: Sequence[New]) -> list[ir.Value]:
    outputs, nodes = newnode.build(asked)
    for node in nodes:
        name = f"observed.{len(graph)}"
        node.name, node.outputs[0].name = name, name
        graph.append(node)
    return [output for output in outputs if output is not None]
