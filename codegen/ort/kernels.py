"""What the installed ONNX Runtime can execute on the CPU, found by asking it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from optc import opschema

PROVIDER = "CPUExecutionProvider"
CONTRIB = "com.microsoft"
_OPEN_END = 2**31 - 1  # of the versions that a kernel is registered for


@cache
def _kernels() -> Mapping[tuple[str, str], tuple[native.KernelDef, ...]]:
    found: dict[tuple[str, str], list[native.KernelDef]] = {}
    for kernel in native.get_all_opkernel_def():
        if kernel.provider == PROVIDER:
            found.setdefault((kernel.domain, kernel.op_name), []).append(kernel)
    return {key: tuple(kernels) for key, kernels in found.items()}


def has_kernel(domain: str, op: str, version: int, dtypes: Mapping[str, ir.DataType] | None = None) -> bool:
    """Whether there is a CPU kernel of the operator at ``version`` of its operator set.

    ``dtypes`` maps names of type parameters of the operator (``"T"``) to what they must accept.
    """
    wanted = {name: f"tensor({_TYPE_NAMES.get(t, t.name.lower())})" for name, t in (dtypes or {}).items()}
    since = opschema.runtime_since(domain, op, version)
    for kernel in _kernels().get((_domain(domain), op), ()):
        accepted = kernel.type_constraints
        if _serves(kernel.version_range, version if since is None else since) and all(
            t in accepted.get(name, [t]) for name, t in wanted.items()
        ):
            return True
    return False


def _serves(versions: tuple[int, int], since: int) -> bool:
    """Whether kernels registered for ``versions`` are taken for a declaration of version ``since``.

    Without an end, a kernel is for the declaration that it starts with, and for no later one.
    """
    first, last = versions
    return first == since or (first < since <= last and last != _OPEN_END)


def why_illegal(domain: str, op: str, version: int) -> str | None:
    """Why the runtime cannot execute the operator, or None.

    Types are left out on purpose: where a kernel lacks a type, the runtime puts casts around it. Operators
    without a kernel whose schema carries a body are inlined by the runtime.
    """
    if has_kernel(domain, op, version) or (_domain(domain), op) == ("", "Constant"):
        return None  # the runtime makes initializers of constants when it loads a model
    name = f"{_domain(domain) or 'ai.onnx'}.{op}"
    if opschema.find(domain, op, version) is None:
        return f"ONNX Runtime {onnxruntime.__version__} does not know {name} at opset {version}"
    if _has_body(_domain(domain), op, version):
        return None
    return f"ONNX Runtime {onnxruntime.__version__} has no CPU kernel for {name} at opset {version}"


def keeps_kernel(node: ir.Node, old: int, new: int) -> bool:
    """Whether a node of the default operator set can be executed at version ``new`` if it can at ``old``.

    Where a kernel of the newer version takes fewer types, the runtime would put casts around it.
    """
    return _runs(node, new) or not _runs(node, old)


def _runs(node: ir.Node, version: int) -> bool:
    if why_illegal(node.domain, node.op_type, version):
        return False
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return True
    dtypes = {
        formal.type_str: value.dtype
        for formal, value in zip(schema.inputs, node.inputs, strict=False)
        if value is not None and isinstance(value.type, ir.TensorType) and value.dtype is not None
    }
    return has_kernel("", node.op_type, version, dtypes) or not has_kernel("", node.op_type, version)


def _has_body(domain: str, op: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return domain == CONTRIB  # the bodies of the runtime's own operators cannot be asked for
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


@cache
def newest_ir_version() -> int:
    """The newest IR version of model files that the runtime loads."""
    version = 8
    while version < onnx.IR_VERSION and _loads(version + 1):
        version += 1
    return version


def _loads(ir_version: int) -> bool:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "probe", [value], [value])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=ir_version)
    try:
        native.InferenceSession(native.SessionOptions(), model.SerializeToString(), False, True)
    except native.Fail:
        return False
    return True


@cache
def takes_activation(op: str, attributes: tuple[tuple[str, Any], ...]) -> bool:
    """Whether com.microsoft.``op`` (FusedGemm, FusedConv) has a kernel for these activation attributes.

    It is tried on a tiny model: the activations that a kernel knows are declared nowhere.
    """
    dims = [1] * (4 if op == "FusedConv" else 2)
    x, w, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims) for name in "xwy")
    node = onnx.helper.make_node(op, ["x", "w"], ["y"], domain=CONTRIB)
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes)
    graph = onnx.helper.make_graph([node], "probe", [x, w], [y])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(CONTRIB, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
    except native.Fail:
        return False
    return True


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


_TYPE_NAMES = {
    ir.DataType.FLOAT: "float",
    ir.DataType.DOUBLE: "double",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.BOOL: "bool",
    **{getattr(ir.DataType, f"{s}INT{n}"): f"{s.lower()}int{n}" for s in ("", "U") for n in (8, 16, 32, 64)},
}
