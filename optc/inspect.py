"""What `optc inspect` shows: a model by its blocks, with parameters, operations, bytes and roofline time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import manifest, registry
from optc.analysis.blocks import Blocks, find_blocks
from optc.analysis.concrete import concrete
from optc.analysis.cost import Machine, NodeCost, cost, this_machine, total
from optc.analysis.liveness import liveness
from optc.inspect_view import render
from optc.listing import op_text, type_text
from optc.subgraphs import subgraphs

__all__ = ["inspect_data", "render", "tuned"]


def inspect_data(
    model: ir.Model, bind: Mapping[str, int] | None = None, *, machine: Machine | None = None
) -> dict[str, Any]:
    """Returns everything that is shown, as JSON-able data. The model is only read.

    Args:
        bind: sizes of named input dims; a dim without one counts as 1 and is listed under "assumed".
        machine: peaks for the roofline; measured (once per process) when not given.

    Raises:
        UserError: ``bind`` names a dim that no input has.
    """
    machine = machine or this_machine()
    sized = concrete(model, bind or {})
    costs = dict(zip(model.graph, map(_numeric, cost(sized.model).values()), strict=True))
    blocks = find_blocks(model)
    weights = _weights_by_user(model)
    whole = _figures(model.graph, costs, weights, machine)
    return {
        "model": _header(model),
        "bind": sized.bind,
        "assumed": list(sized.assumed),
        "machine": {"flops_per_s": machine.flops_per_s, "bytes_per_s": machine.bytes_per_s},
        "groups": _groups(blocks, costs, weights, machine, whole["ms"]),
        "ops": _by_op(model, costs, machine, whole["ms"]),
        "total": {**whole, "peak_activation_bytes": liveness(sized.model.graph).peak_bytes},
        "notes": sorted({item.note for item in costs.values() if item.note}),
    }


def tuned(artifact: Path) -> dict[str, Any]:
    """The machine that an artifact was made for, and what another one means for it, as JSON-able data."""
    found = manifest.read(artifact)
    target = registry.find_target(found.target)
    return {"machine": dict(found.machine), "here": list(target.unlike(found.machine))}


def _numeric(found: NodeCost) -> NodeCost:
    """What still depends on the data (inside a body, say) is not known."""
    amounts = (found.flops, found.read, found.written)
    if not any(isinstance(amount, ir.SymbolicDim) for amount in amounts):
        return found
    flops, read, written = (amount if isinstance(amount, int) else None for amount in amounts)
    return NodeCost(flops, read, written, found.note or "a size depends on the data")


def is_parameter(tensor: ir.TensorProtocol) -> bool:
    """Whether a constant is a weight: not a scalar, not the shapes and indices of the graph's own making."""
    return tensor.size > 1 and tensor.dtype not in (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


def parameters(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The weights of all graphs, by name."""
    return {
        name: value.const_value
        for graph in model.graphs()
        for name, value in graph.initializers.items()
        if value.const_value is not None and is_parameter(value.const_value)
    }


def op_histogram(model: ir.Model) -> dict[str, int]:
    """How often each operator occurs in the main graph and its subgraphs, most frequent first."""
    counted = Counter(op_text(node) for node in model.graph.all_nodes())
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _header(model: ir.Model) -> dict[str, Any]:
    weights = parameters(model)
    calls = Counter(node.op_identifier() for node in model.graph.all_nodes())
    return {
        "name": model.graph.name,
        "ir_version": model.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(model.opset_imports.items())},
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "inputs": [{"name": value.name, "type": type_text(value)} for value in model.graph.inputs],
        "outputs": [{"name": value.name, "type": type_text(value)} for value in model.graph.outputs],
        "nodes": len(model.graph),
        "functions": [
            {"name": f"{f.domain}::{f.name}", "nodes": len(f), "calls": calls[f.identifier()]}
            for f in sorted(model.functions.values(), key=lambda f: f.identifier())
        ],
        "weights": {
            "tensors": len(weights),
            "parameters": sum(tensor.size for tensor in weights.values()),
            "bytes": sum(tensor.nbytes for tensor in weights.values()),
        },
    }


def _weights_by_user(model: ir.Model) -> dict[ir.Node, int]:
    """Node -> parameters that it is the first to use, those read inside its subgraphs included."""
    first: dict[ir.Value, ir.Node] = {}
    for node in model.graph:
        inside = [inner for _, body in subgraphs(node) for inner in body.all_nodes()]
        for user in (node, *inside):
            for value in user.inputs:
                if value is not None and value.is_initializer():
                    first.setdefault(value, node)
    owned: Counter[ir.Node] = Counter()
    for value, node in first.items():
        if value.const_value is not None and is_parameter(value.const_value):
            owned[node] += value.const_value.size
    return dict(owned)


def _figures(
    nodes: Iterable[ir.Node],
    costs: Mapping[ir.Node, NodeCost],
    weights: Mapping[ir.Node, int],
    machine: Machine,
) -> dict[str, Any]:
    members = list(nodes)
    added = total(costs[node] for node in members)
    return {
        "nodes": len(members),
        "parameters": sum(weights.get(node, 0) for node in members),
        "flops": added.flops,
        "bytes": added.bytes,
        "ms": sum(costs[node].ms(machine) for node in members),
    }


def _groups(
    blocks: Blocks,
    costs: Mapping[ir.Node, NodeCost],
    weights: Mapping[ir.Node, int],
    machine: Machine,
    whole_ms: float,
) -> list[dict[str, Any]]:
    def group(name: str, kind: str, nodes: Sequence[ir.Node]) -> dict[str, Any]:
        figures = _figures(nodes, costs, weights, machine)
        return {"name": name, "kind": kind, **figures, "share": _share(figures["ms"], whole_ms)}

    rows = [group("prologue", "", blocks.prologue)]
    for block in blocks.blocks:
        row = group(f"block {block.index}", block.kind, block.nodes)
        row |= {"stream": block.stream, "entry": block.entry.name, "exit": block.exit.name}
        row["parts"] = [group(part.kind, part.kind, part.nodes) for part in block.parts]
        rows.append(row)
    return [*rows, group("epilogue", "", blocks.epilogue)]


def _by_op(
    model: ir.Model, costs: Mapping[ir.Node, NodeCost], machine: Machine, whole_ms: float
) -> list[dict[str, Any]]:
    members: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        members.setdefault(op_text(node), []).append(node)
    rows = []
    for name, nodes in members.items():
        added = total(costs[node] for node in nodes)
        ms = sum(costs[node].ms(machine) for node in nodes)
        rows.append(
            {
                "op": name,
                "count": len(nodes),
                "flops": added.flops,
                "bytes": added.bytes,
                "ms": ms,
                "share": _share(ms, whole_ms),
            }
        )
    return sorted(rows, key=lambda row: (-row["ms"], -row["count"], row["op"]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
