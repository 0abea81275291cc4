"""A model as text: one line per node, stable names, made to be read and to be diffed between passes."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from optc.subgraphs import subgraphs

INLINE_ELEMENTS = 8  # constants up to this many elements are shown by value where they are used
NO_MODULE = "_empty_nn_module_stack"  # what the exporter writes for nodes of no module


def listing(model: ir.Model, *, hashes: bool = True) -> str:
    """Returns the whole model as text, ending in a newline.

    Args:
        model: any model; nothing of it is changed.
        hashes: show a short content hash of every larger initializer (reads all weights once).
    """
    return "\n".join(_model_lines(model, hashes)) + "\n"


def type_text(value: ir.Value) -> str:
    """Returns e.g. ``f32[batch, seq, 384]``, ``i64[]``, ``seq(f32[?])``; ``?`` stands for what is unknown."""
    return _type_text(value.type, value.shape)


def node_text(node: ir.Node) -> str:
    """Returns the line of one node, without its source comment and without the bodies of its subgraphs."""
    outputs = ", ".join(_result(value) for value in node.outputs)
    operands = ", ".join(operand_text(value) for value in node.inputs)
    text = f"{outputs} = {op_text(node)}({operands})" if outputs else f"{op_text(node)}({operands})"
    attributes = ", ".join(f"{name}={attribute_text(attr)}" for name, attr in sorted(node.attributes.items()))
    return f"{text} {{{attributes}}}" if attributes else text


def op_text(node: ir.Node) -> str:
    """Returns ``MatMul``, ``optc::Attention`` or ``domain::Name:overload``."""
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return f"{name}:{node.overload}" if node.overload else name


def operand_text(value: ir.Value | None) -> str:
    """Returns ``%name``, the value of a tiny constant, or ``_`` for an input left out."""
    if value is None:
        return "_"
    tiny = _tiny_constant(value)
    return f"%{value.name}" if tiny is None else tiny


def source_text(node: ir.Node) -> str:
    """Returns where the node came from (the path of the user's module), or an empty text."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if not scopes:
        return ""
    try:
        names = ast.literal_eval(scopes)
    except (SyntaxError, ValueError):
        return ""  # the metadata of a foreign file, in another format
    if not isinstance(names, list):
        return ""
    named = [
        str(name) for name in names[:-1] if name and NO_MODULE not in name
    ]  # the last one is the operator itself
    return named[-1] if named else ""


def tensor_text(tensor: ir.TensorProtocol, *, hashes: bool = True) -> str:
    """Returns type and value of a tiny tensor, type and content hash of a larger one."""
    head = f"{dtype_text(tensor.dtype)}[{', '.join(str(dim) for dim in tensor.shape)}]"
    if _is_tiny(tensor):
        return f"{head} {_values(tensor)}"
    return f"{head} #{content_hash(tensor)}" if hashes else head


def content_hash(tensor: ir.TensorProtocol) -> str:
    """Returns 8 hex digits over the bytes of the tensor."""
    if tensor.dtype == ir.DataType.STRING:
        data = b"\0".join(np.asarray(tensor.numpy()).ravel().tolist())
        return hashlib.sha256(data).hexdigest()[:8]
    if tensor.dtype.bitwidth < 8 or not tensor.size:
        return hashlib.sha256(tensor.tobytes()).hexdigest()[:8]
    array = np.ascontiguousarray(tensor.numpy()).reshape(-1)  # not tobytes: that copies every weight
    return hashlib.sha256(array.view(np.uint8).data).hexdigest()[:8]


def attribute_text(attr: ir.Attr) -> str:
    """Returns the value of an attribute on one line; of a graph, only its size."""
    if attr.is_ref():
        return f"@{attr.ref_attr_name}"
    if attr.type == ir.AttributeType.TENSOR:
        return tensor_text(attr.as_tensor())
    if attr.type == ir.AttributeType.GRAPH:
        return f"graph of {len(attr.as_graph())}"
    if attr.type == ir.AttributeType.GRAPHS:
        return f"{len(attr.as_graphs())} graphs"
    if attr.type == ir.AttributeType.FLOAT:
        return _float(attr.as_float())
    if attr.type == ir.AttributeType.FLOATS:
        return f"[{', '.join(_float(x) for x in attr.as_floats())}]"
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.STRINGS):
        return repr(list(attr.value))
    if attr.type in (ir.AttributeType.INT, ir.AttributeType.STRING):
        return repr(attr.value)
    return f"<{attr.type.name.lower()}>"


def _model_lines(model: ir.Model, hashes: bool) -> Iterator[str]:
    yield f"ir_version {model.ir_version}"
    yield from _opsets(model.opset_imports)
    yield from _graph_lines(model.graph, hashes, indent="")
    for function in sorted(model.functions.values(), key=lambda f: f.identifier()):
        yield ""
        yield from _function_lines(function, hashes)


def _opsets(imports: dict[str, int], indent: str = "") -> Iterator[str]:
    for domain, version in sorted(imports.items()):
        yield f"{indent}opset {domain or 'ai.onnx'} {version}"


def _graph_lines(graph: ir.Graph, hashes: bool, indent: str) -> Iterator[str]:
    for value in graph.inputs:
        yield f"{indent}input {_result(value)}"
    yield from _node_lines(graph, hashes, indent)
    for value in graph.outputs:
        yield f"{indent}output {operand_text(value)}: {type_text(value)}"
    for name, value in sorted(graph.initializers.items()):
        if value.const_value is None:
            yield f"{indent}weight %{name}: {type_text(value)} (no data)"
        elif not _is_tiny(value.const_value):
            yield f"{indent}weight %{name}: {tensor_text(value.const_value, hashes=hashes)}"
    if graph.initializers:
        tiny = sum(v.const_value is not None and _is_tiny(v.const_value) for v in graph.initializers.values())
        yield f"{indent}tiny weights, shown where they are used: {tiny}"


def _node_lines(nodes: Iterable[ir.Node], hashes: bool, indent: str) -> Iterator[str]:
    for node in nodes:
        source = source_text(node)
        yield f"{indent}{node_text(node)}" + (f"  # {source}" if source else "")
        for name, graph in subgraphs(node):
            yield f"{indent}  {name}:"
            yield from _graph_lines(graph, hashes, indent + "    ")


def _function_lines(function: ir.Function, hashes: bool) -> Iterator[str]:
    name = f"{function.domain}::{function.name}" + (f":{function.overload}" if function.overload else "")
    inputs = ", ".join(f"%{value.name}" for value in function.inputs)
    attributes = ", ".join(
        attr.name if attr.value is None else f"{attr.name}={attribute_text(attr)}"
        for attr in function.attributes.values()
    )
    yield f"function {name}({inputs})" + (f" {{{attributes}}}" if attributes else "")
    yield from _opsets(function.opset_imports, indent="  ")
    yield from _node_lines(function, hashes, indent="  ")
    yield f"  return {', '.join(operand_text(value) for value in function.outputs)}"


def _result(value: ir.Value) -> str:
    return f"%{value.name}: {type_text(value)}" if value.name else "_"


def _type_text(kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> str:
    if kind is None:
        return "?"
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        name = "seq" if isinstance(kind, ir.SequenceType) else "optional"
        return f"{name}({_type_text(kind.elem_type, shape)})"
    dense = _tensor_type(kind.dtype, shape)
    return f"sparse({dense})" if isinstance(kind, ir.SparseTensorType) else dense


def _tensor_type(dtype: ir.DataType, shape: ir.Shape | None) -> str:
    if shape is None:
        return f"{dtype_text(dtype)}[?...]"
    dims = ", ".join(str(dim) if isinstance(dim, int) else (dim.value or "?") for dim in shape)
    return f"{dtype_text(dtype)}[{dims}]"


def dtype_text(dtype: ir.DataType) -> str:
    """Returns ``f32``, ``i64``, ``bool`` ..."""
    return "bool" if dtype == ir.DataType.BOOL else dtype.short_name()


def _tiny_constant(value: ir.Value) -> str | None:
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or value.is_graph_input() or not _is_tiny(tensor):
        return None
    return f"{dtype_text(tensor.dtype)}:{_values(tensor)}"


def _is_tiny(tensor: ir.TensorProtocol) -> bool:
    return tensor.size <= INLINE_ELEMENTS and len(tensor.shape) <= 1


def _values(tensor: ir.TensorProtocol) -> str:
    array = tensor.numpy()
    items = [_item(item) for item in array.ravel()]
    return items[0] if array.ndim == 0 else f"[{', '.join(items)}]"


def _item(item: object) -> str:
    if isinstance(item, np.floating):
        return str(item)
    return repr(item.item()) if isinstance(item, np.generic) else str(item)


def _float(value: float) -> str:
    return str(np.float32(value))  # attributes are stored in 32 bits: shows 1e-05, not 9.999999747e-06
