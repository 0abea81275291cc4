"""Which newer operator set a model can be brought to without a change of meaning, and bringing it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

from optc import opschema

from .changes import CHANGES, REVIEWED, Edit
from .constants import Names

Keeps = Callable[[ir.Node, int, int], bool]


@dataclass(frozen=True)
class Raised:
    """What raising did: the versions before and after, how many nodes were rewritten, and what stopped it."""

    before: int
    after: int
    rewritten: int = 0
    stopped: str | None = None


@dataclass(frozen=True)
class _Reach:
    """How far one node can go, the edits on the way by the version that asks for them, and what stops it."""

    version: int
    edits: tuple[tuple[int, Edit], ...] = ()
    stopped: str | None = None


def raise_to(model: ir.Model, newest: int, keeps: Keeps = lambda node, old, new: True) -> Raised:
    """Brings the model, in place, to the newest version up to ``newest`` that all its nodes can go to.

    Most operators only accepted more types in newer versions, and stay as they are; some are rewritten (an
    attribute that became an input); and where an operator means something else in a newer version, the whole
    model stops below that version: the graph, its subgraphs and its functions share one.

    Args:
        keeps: ``keeps(node, old, new)``: whether a target that executes the node at version ``old`` also does
            at ``new``.
    """
    bodies = _bodies(model)
    versions = [body.opset_imports[""] for body in bodies if "" in body.opset_imports]
    before = max(versions, default=newest)
    if before > newest or min(versions, default=newest) == newest:
        return Raised(before, before)
    reaches = [
        (node, _reach(node, body.opset_imports[""], newest, keeps)) for body, node in _default_nodes(model)
    ]
    lowest = min(reaches, key=lambda pair: pair[1].version, default=None)
    after = newest if lowest is None else lowest[1].version
    if after < before or after == min(versions):
        return Raised(before, before, stopped=lowest[1].stopped if lowest is not None else None)
    names, rewritten = Names(model), 0
    for node, reach in reaches:
        edits = [edit for version, edit in reach.edits if version <= after]
        rewritten += bool(edits)
        for edit in edits:
            edit(node, names)
    for body in bodies:
        if "" in body.opset_imports:
            body.opset_imports[""] = after
    return Raised(before, after, rewritten, lowest[1].stopped if lowest is not None else None)


def _bodies(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _default_nodes(model: ir.Model) -> Iterator[tuple[ir.Graph | ir.Function, ir.Node]]:
    for body in _bodies(model):
        for node in body.all_nodes():
            if node.domain == "" and node.op_identifier() not in model.functions:
                yield body, node


def _reach(node: ir.Node, source: int, newest: int, keeps: Keeps) -> _Reach:
    edits: list[tuple[int, Edit]] = []
    for version in reversed(opschema.known_versions("", node.op_type)):
        if not source < version <= newest:
            continue
        found = _change(node, version)
        if not isinstance(found, str) and not keeps(node, source, version):
            found = "the target has no kernel of it for these types"
        if isinstance(found, str):
            place = f"{node.op_type} of opset {version} (node {node.name!r})"
            return _Reach(version - 1, tuple(edits), f"{place}: {found}")
        if found is not None:
            edits.append((version, found))
    return _Reach(newest, tuple(edits))


def _change(node: ir.Node, version: int) -> Edit | str | None:
    """The edit that the new version asks for, why the node cannot go there, or None: it means the same."""
    schema = opschema.find("", node.op_type, version)
    if schema is None or schema.deprecated:
        return "it was removed"
    if change := CHANGES.get((node.op_type, version)):
        return change(node)
    if version > REVIEWED and not _reads_the_same(node.op_type, version):
        return "it is not known whether it still means the same"
    return None


def _reads_the_same(op_type: str, version: int) -> bool:
    """Whether two successive declarations differ in the accepted types only."""
    try:
        new = onnx.defs.get_schema(op_type, version, "")
        old = onnx.defs.get_schema(op_type, version - 1, "")
    except onnx.defs.SchemaError:
        return False
    return _declaration(old) == _declaration(new)


def _declaration(schema: onnx.defs.OpSchema) -> object:
    attributes = sorted(
        (name, str(a.type), a.required, a.default_value.SerializeToString(), a.description)
        for name, a in schema.attributes.items()
    )
    formals = [(f.name, f.option, f.description) for f in (*schema.inputs, *schema.outputs)]
    return schema.doc, attributes, formals, len(schema.inputs)
