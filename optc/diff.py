"""What `optc diff A B` shows: how two models differ in structure, in weights and in what they compute."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import oracle
from optc.analysis.blocks import find_blocks
from optc.capture.feeds import checked
from optc.diff_view import render
from optc.errors import UserError
from optc.inspect import op_histogram, parameters
from optc.listing import content_hash, listing, type_text

__all__ = ["diff_data", "render"]


def diff_data(a: ir.Model, b: ir.Model, feeds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns everything that is shown, as JSON-able data. The models are only read.

    Args:
        feeds: inputs by name; when given, both models run on them (unoptimized) and are compared, outputs
            by name or else by place.

    Raises:
        UserError: the feeds are not inputs of both models, or do not fit one of them.
    """
    lines_a, lines_b = listing(a).splitlines(), listing(b).splitlines()
    found = {
        "same": lines_a == lines_b,
        "nodes": [len(a.graph), len(b.graph)],
        "interface": _interface(a, b),
        "ops": _counts(op_histogram(a), op_histogram(b)),
        "blocks": [_blocks(a), _blocks(b)],
        "functions": _functions(a, b),
        "parameters": _parameters(a, b),
        "listing": list(difflib.unified_diff(lines_a, lines_b, "a", "b", lineterm="", n=2)),
    }
    if feeds is not None:
        found["outputs"] = _outputs(a, b, feeds)
    return found


def _interface(a: ir.Model, b: ir.Model) -> list[dict[str, Any]]:
    """Inputs and outputs that are not the same in both, in order; one at the same place may be renamed."""
    rows = []
    for kind in ("inputs", "outputs"):
        values_a, values_b = getattr(a.graph, kind), getattr(b.graph, kind)
        renamed = _renamed(values_a, values_b)
        left = {value.name: type_text(value) for value in values_a}
        right = {renamed.get(value.name, value.name): type_text(value) for value in values_b}
        new_names = {old: new for new, old in renamed.items()}
        for name in dict.fromkeys([*left, *right]):
            if left.get(name) != right.get(name) or name in new_names:
                row = {"kind": kind[:-1], "name": name, "a": left.get(name), "b": right.get(name)}
                rows.append({**row, "renamed": new_names[name]} if name in new_names else row)
    return rows


def _renamed(a: Sequence[ir.Value], b: Sequence[ir.Value]) -> dict[str, str]:
    """Names in ``b`` that stand where ``a`` has another name, to that name."""
    names_a, names_b = ([value.name or "" for value in values] for values in (a, b))
    if len(names_a) != len(names_b):
        return {}
    return {
        new: old
        for old, new in zip(names_a, names_b, strict=True)
        if new not in names_a and old not in names_b
    }


def _counts(a: Mapping[str, int], b: Mapping[str, int]) -> list[dict[str, Any]]:
    """Operators that do not occur equally often, the largest change first."""
    rows = [{"op": op, "a": a.get(op, 0), "b": b.get(op, 0)} for op in dict.fromkeys([*a, *b])]
    changed = [row for row in rows if row["a"] != row["b"]]
    return sorted(changed, key=lambda row: (-abs(row["b"] - row["a"]), row["op"]))


def _blocks(model: ir.Model) -> list[dict[str, Any]]:
    found = find_blocks(model)
    return [{"kind": block.kind, "stream": block.stream, "nodes": len(block.nodes)} for block in found.blocks]


def _functions(a: ir.Model, b: ir.Model) -> dict[str, list[str]]:
    left, right = (
        {
            f"{domain}::{name}" + (f":{overload}" if overload else "")
            for domain, name, overload in model.functions
        }
        for model in (a, b)
    )
    return {"removed": sorted(left - right), "added": sorted(right - left)}


def _parameters(a: ir.Model, b: ir.Model) -> dict[str, Any]:
    """Weights by name; a weight under another name with the same contents counts as renamed."""
    left, right = parameters(a), parameters(b)
    gone = {name: content_hash(left[name]) for name in left if name not in right}
    new = {name: content_hash(right[name]) for name in right if name not in left}
    by_hash = {digest: name for name, digest in reversed(gone.items())}
    renamed = [[by_hash[digest], name] for name, digest in new.items() if digest in by_hash]
    moved = {name for pair in renamed for name in pair}
    shared = [name for name in left if name in right]
    return {
        "count": [_size(left), _size(right)],
        "bytes": [sum(t.nbytes for t in left.values()), sum(t.nbytes for t in right.values())],
        "removed": [name for name in gone if name not in moved],
        "added": [name for name in new if name not in moved],
        "renamed": renamed,
        "changed": [change for name in shared if (change := _change(name, left[name], right[name]))],
    }


def _size(weights: Mapping[str, ir.TensorProtocol]) -> int:
    return sum(tensor.size for tensor in weights.values())


def _change(name: str, a: ir.TensorProtocol, b: ir.TensorProtocol) -> dict[str, Any] | None:
    types = [f"{t.dtype.short_name()}[{', '.join(map(str, t.shape))}]" for t in (a, b)]
    if types[0] != types[1]:
        return {"name": name, "a": types[0], "b": types[1], "rel_l2": None}
    if content_hash(a) == content_hash(b):
        return None
    left, right = (t.numpy().astype(np.float64) for t in (a, b))
    with np.errstate(all="ignore"):
        norm, distance = float(np.linalg.norm(left)), float(np.linalg.norm(left - right))
    change = distance / norm if norm else math.inf
    return {"name": name, "a": types[0], "b": types[1], "rel_l2": change if math.isfinite(change) else None}


def _outputs(a: ir.Model, b: ir.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (_fed(label, model, feeds) for label, model in (("first", a), ("second", b)))
    renamed = _renamed(a.graph.outputs, b.graph.outputs)
    theirs = {renamed.get(name, name): value for name, value in oracle.run(b, second).items()}
    found = oracle.difference(oracle.run(a, first), theirs)
    return {**asdict(found), "exact": found.exact}


def _fed(label: str, model: ir.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds as inputs of the model, or a UserError that says which of the two they do not fit."""
    names = [value.name or "" for value in model.graph.inputs]
    unknown = sorted(set(feeds) - set(names))
    if unknown:
        hint = f"its inputs are {', '.join(names)}"
        raise UserError(f"the {label} model has no input named {unknown[0]!r}", hint=hint)
    try:
        return checked(model, feeds)
    except UserError as error:
        raise UserError(error.what, where=f"{error.where} of the {label} model", hint=error.hint) from None
