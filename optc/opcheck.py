"""I7 for one node: does the operator exist at this opset, and does the node look as its schema says."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import networkx as nx
import onnx_ir as ir

from optc import opschema


def op_complaint(model: ir.Model, node: ir.Node, opsets: Mapping[str, int]) -> str | None:
    """Why the node is not a valid call of an operator or local function, or None."""
    function = model.functions.get(node.op_identifier())
    if function is not None:
        return _call_complaint(node, function)
    if node.domain not in opsets:
        return f"domain {node.domain!r} is not among the imported opsets {sorted(opsets)}"
    opset = opsets[node.domain]
    schema = opschema.find(node.domain, node.op_type, opset)
    if schema is None:
        return _unknown(node, opset)
    if schema.deprecated:
        return f"{node.op_type} was removed from ONNX at opset {schema.since}, and the model imports {opset}"
    return _arity_complaint(node, schema) or _attribute_complaint(node, schema)


def recursive_function(model: ir.Model) -> str | None:
    """The name of a local function that calls itself, directly or through others, or None."""
    calls: nx.DiGraph[ir.OperatorIdentifier] = nx.DiGraph()
    for identifier, function in model.functions.items():
        for node in function.all_nodes():
            if node.op_identifier() in model.functions:
                calls.add_edge(identifier, node.op_identifier())
    for component in nx.strongly_connected_components(calls):
        member = min(component)
        if len(component) > 1 or calls.has_edge(member, member):
            return f"{member[0]}::{member[1]}"
    return None


def _unknown(node: ir.Node, opset: int) -> str:
    versions = opschema.known_versions(node.domain, node.op_type)
    name = f"{node.domain or 'ai.onnx'}::{node.op_type}"
    if versions:
        return f"{name} exists only from opset {versions[-1]} on, and the model imports {opset}"
    close = difflib.get_close_matches(node.op_type, opschema.names(node.domain), n=1)
    guess = f"; did you mean {close[0]}?" if close else ""
    return (
        f"no operator {name} is known to ONNX or to the installed ONNX Runtime, "
        f"and the model has no function body for it{guess}"
    )


def _call_complaint(node: ir.Node, function: ir.Function) -> str | None:
    given, declared = len(node.inputs), len(function.inputs)
    if given > declared:
        return f"{given} inputs are given to function {function.name}, which has {declared}"
    given, declared = len(node.outputs), len(function.outputs)
    if given > declared:
        return f"{given} outputs are taken from function {function.name}, which has {declared}"
    return None


def _arity_complaint(node: ir.Node, schema: opschema.OpSchema) -> str | None:
    for side, count, (least, most) in (
        ("inputs", len(node.inputs), schema.inputs),
        ("outputs", len(node.outputs), schema.outputs),
    ):
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            return f"{node.op_type} has {count} {side}, and its schema asks for {wanted}"
    for index in sorted(schema.required):
        if index < len(node.inputs) and node.inputs[index] is None:
            return f"{node.op_type} is missing its required input {index}"
    return None


def _attribute_complaint(node: ir.Node, schema: opschema.OpSchema) -> str | None:
    for name, (_, required) in schema.attributes.items():
        if required and name not in node.attributes:
            return f"{node.op_type} lacks its required attribute {name!r}"
    for name, attribute in node.attributes.items():
        if name not in schema.attributes:
            if name.startswith("_"):  # internal annotations that ONNX Runtime lets pass
                continue
            return f"{node.op_type} has no attribute {name!r} at opset version {schema.since}"
        wanted = schema.attributes[name][0]
        if wanted not in (ir.AttributeType.UNDEFINED, attribute.type):
            return f"attribute {name!r} of {node.op_type} is {attribute.type.name}, not {wanted.name}"
    values = [name for name in node.attributes if not name.startswith("_")]
    if node.op_type == "Constant" and node.domain == "" and len(values) != 1:
        return f"Constant holds one value, not {', '.join(map(repr, values)) or 'none'}"
    return None
