"""IR version and opsets: what the installed ONNX Runtime loads, and how a newer model comes down to it."""

from __future__ import annotations

from functools import cache

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper

from optc import opschema
from optc.errors import InvalidModel

_OLDEST = 7  # ONNX Runtime promises nothing below


def bodies(model: ir.Model) -> list[ir.Graph | ir.Function]:
    """The main graph and the local functions: what imports opsets and is sorted on its own."""
    return [model.graph, *model.functions.values()]


@cache
def newest_ir_version() -> int:
    """The newest IR version that the installed ONNX Runtime loads, found by trying."""
    return next(v for v in range(onnx.IR_VERSION, 0, -1) if _loads(v, _OLDEST, {}))


@cache
def newest_opset(domain: str = "") -> int | None:
    """The newest opset of a domain that the installed ONNX Runtime loads; None if it has no such domain."""
    declared = opschema.runtime_domains().get(domain)
    if declared is None:
        return None
    start = max(declared, onnx.defs.onnx_opset_version() if domain == "" else declared)
    for version in range(start, 0, -1):
        if _loads(newest_ir_version(), *((version, {}) if domain == "" else (_OLDEST, {domain: version}))):
            return version
    return None


def settle(model: ir.Model, where: str) -> None:
    """Brings the model, in place, to the IR version and opsets that the installed ONNX Runtime loads.

    Needs inferred types. An operator that did not change between the two opsets is kept as it is; one that
    did goes through ONNX's own version converter.

    Raises:
        InvalidModel: an operator cannot be expressed in the older opset; names it.
    """
    model.ir_version = newest_ir_version()
    known = onnx.defs.onnx_opset_version()
    for body in bodies(model):
        if body.opset_imports.get("", 0) > known:
            what = f"it is written in opset {body.opset_imports['']}, and the installed onnx knows {known}"
            hint = f"export it with opset {known} or older, or install a newer onnx"
            raise InvalidModel(what, where=where, hint=hint)
        imports = body.opset_imports
        for domain in sorted(imports):
            newest = newest_opset(domain)
            if newest is not None and imports[domain] > newest:
                for node in list(body.all_nodes()):
                    if node.domain == domain:
                        _lower(node, imports[domain], newest, where)
                imports[domain] = newest


def add_missing_imports(model: ir.Model) -> None:
    """Imports the domains that are used, known to ONNX Runtime and not declared, as ONNX Runtime does itself.

    ``ai.onnx`` becomes the empty domain that it is another name for.
    """
    for body in bodies(model):
        imports = body.opset_imports
        if "ai.onnx" in imports:
            imports[""] = imports.pop("ai.onnx")
        for domain in sorted({node.domain for node in body.all_nodes()} - set(imports)):
            fallback = model.opset_imports.get(domain, newest_opset(domain))
            if fallback is not None:
                imports[domain] = fallback
        imports.setdefault("", model.opset_imports.get("", newest_opset() or _OLDEST))


def _lower(node: ir.Node, source: int, target: int, where: str) -> None:
    new, old = (opschema.find(node.domain, node.op_type, version) for version in (source, target))
    if new is None or (old is not None and old.since == new.since):
        return  # unknown ops are the verifier's business
    place = f"{where}: node {node.name!r} ({node.op_type})"
    hint = f"export the model with opset {target} or older"
    if old is None:
        what = f"{node.op_type} came with opset {new.since}, and the installed ONNX Runtime stops at {target}"
        raise InvalidModel(what, where=place, hint=hint)
    reason = _refusal(node, source, target)
    if reason:
        what = (
            f"{node.op_type} of opset {new.since} cannot be written in opset {target}, the newest that the "
        )
        what += f"installed ONNX Runtime loads: {reason}"
        raise InvalidModel(what, where=place, hint=hint)


def _refusal(node: ir.Node, source: int, target: int) -> str | None:
    """Rewrites the node for the older opset, or says why it cannot be."""
    try:
        converted = onnx.version_converter.convert_version(_alone(node, source), target).graph.node
    except (RuntimeError, ValueError) as error:
        return str(error).strip().splitlines()[0].rpartition(": ")[2]
    if len(converted) != 1 or converted[0].op_type != node.op_type:
        return f"it would become {len(converted)} nodes"
    if not _accepts(node, target):
        return "its types are new"
    node.attributes.clear()
    for attribute in converted[0].attribute:
        node.attributes[attribute.name] = ir.serde.deserialize_attribute(attribute)
    return None


def _alone(node: ir.Node, opset: int) -> onnx.ModelProto:
    """A model of one copy of the node, whose inputs are graph inputs of the same types."""
    given = [None if v is None else ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.inputs]
    copy = ir.Node(
        node.domain,
        node.op_type,
        given,
        [attribute for attribute in node.attributes.values() if not attribute.is_ref()],
        outputs=[ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.outputs],
        name=node.name,
    )
    inputs = list({v.name: v for v in given if v is not None}.values())
    graph = ir.Graph(inputs, list(copy.outputs), nodes=[copy], opset_imports={node.domain: opset}, name="one")
    return ir.to_proto(ir.Model(graph, ir_version=newest_ir_version()))


def _accepts(node: ir.Node, opset: int) -> bool:
    """Whether the operator took these input types already at the older opset."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    formal = list(schema.inputs)
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None or not formal:
            continue
        allowed = formal[min(index, len(formal) - 1)].types
        if isinstance(value.type, ir.TensorType) and _type_text(value.type) not in allowed:
            return False
    return True


def _type_text(declared: ir.TensorType) -> str:
    proto = onnx.TypeProto()
    ir.serde.serialize_type_into(proto, declared)
    name = onnx.TensorProto.DataType.Name(proto.tensor_type.elem_type).lower()
    return f"tensor({name})"


def _loads(ir_version: int, opset: int, others: dict[str, int]) -> bool:
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **others}.items()]
    model = helper.make_model(graph, ir_version=ir_version, opset_imports=imports)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # every refusal of the runtime is the answer that was asked for
        return False
    return True
