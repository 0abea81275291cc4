"""What the stock exporter needs to convert programs that it stumbles on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree

from .memory_order import in_memory_order

_aten = torch.ops.aten


@contextmanager
def adapted(program: ExportedProgram) -> Iterator[None]:
    """Rewrites the program, for the while, into an equal one that the exporter can convert."""
    with ExitStack() as undo:
        for module in program.graph_module.modules():
            if not isinstance(module, torch.fx.GraphModule):
                continue
            for node in list(module.graph.nodes):
                if node.op == "call_function":
                    _view_as_reshape(node, undo)
                    _promote_subtrahend(node, undo)
                    _name_default_type(node, undo)
                    _drop_assertion(node, undo)
                    _restore_type(node, undo)
                    _attend_in_four_dims(node, undo)
                    in_memory_order(node, undo)
        _drop_constant_outputs(program.graph_module.graph.output_node(), undo)
        _flatten_interface(program, undo)
        yield


def _view_as_reshape(node: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter keeps the operators that ONNX has, and traces the program again without decomposing them.

    Strides then differ from those of the eager run, for which the view was valid. A reshape computes the same
    for any strides.
    """
    if node.target in (_aten.view.default, _aten._unsafe_view.default):
        undo.callback(setattr, node, "target", node.target)
        node.target = _aten.reshape.default


def _promote_subtrahend(node: torch.fx.Node, undo: ExitStack) -> None:
    """``1.0 - mask`` with an integer mask: the exporter cannot promote types when a number comes first."""
    if node.target is not _aten.rsub.Scalar or not isinstance(node.args[0], torch.fx.Node):
        return
    tensor, dtype = node.args[0], node.meta["val"].dtype
    if tensor.meta["val"].dtype == dtype:
        return
    with node.graph.inserting_before(node):
        cast = node.graph.call_function(_aten._to_copy.default, (tensor,), {"dtype": dtype})
    cast.meta = {key: value for key, value in node.meta.items() if key != "val"}
    cast.meta["val"] = tensor.meta["val"].to(dtype)
    node.replace_input_with(tensor, cast)
    undo.callback(node.graph.erase_node, cast)
    undo.callback(node.replace_input_with, cast, tensor)


def _name_default_type(node: torch.fx.Node, undo: ExitStack) -> None:
    """Of what makes tensors from numbers; the exporter takes float32 whatever ``set_default_dtype`` says."""
    value = node.meta.get("val")
    if getattr(node.target, "overloadpacket", None) not in _MAKERS or not isinstance(value, torch.Tensor):
        return
    if node.kwargs.get("dtype") is None and value.dtype == torch.float64:
        undo.callback(setattr, node, "kwargs", node.kwargs)
        node.kwargs = {**node.kwargs, "dtype": value.dtype}


def _drop_assertion(node: torch.fx.Node, undo: ExitStack) -> None:
    """torch.export asserts the types of autocast, which the exporter, casting elsewhere, does not keep to."""
    if node.target is _aten._assert_tensor_metadata.default:
        for name in ("args", "kwargs", "target"):
            undo.callback(setattr, node, name, getattr(node, name))
        node.args, node.kwargs, node.target = (node.args[0],), {}, _aten.alias.default


def _restore_type(node: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter computes some operators in another type, and leaves their result in it.

    These are reductions of half precision, in float32, and truth of bytes, in booleans.
    """
    value = node.meta.get("val")
    computed_otherwise = _COMPUTED_OTHERWISE.get(getattr(node.target, "overloadpacket", None), ())
    if not isinstance(value, torch.Tensor) or value.dtype not in computed_otherwise:
        return
    users = list(node.users)
    with node.graph.inserting_after(node):
        cast = node.graph.call_function(_aten._to_copy.default, (node,), {"dtype": value.dtype})
    cast.meta = dict(node.meta)
    for user in users:
        user.replace_input_with(node, cast)
    undo.callback(_take_out, cast)


def _attend_in_four_dims(node: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter has attention of [batch, heads, length, width] only; other axes in front broadcast."""
    if node.target is not _aten.scaled_dot_product_attention.default:
        return
    value, users = node.meta.get("val"), list(node.users)
    if not isinstance(value, torch.Tensor) or value.dim() >= 4:
        return
    missing = 4 - value.dim()
    undo.callback(setattr, node, "meta", dict(node.meta))
    original = node.args
    for place in range(3):
        for _ in range(missing):
            with node.graph.inserting_before(node):
                given = node.args[place]
                wide = node.graph.call_function(_aten.unsqueeze.default, (given, 0))
            wide.meta = {**given.meta, "val": given.meta["val"].unsqueeze(0)}  # type: ignore[union-attr]
            node.update_arg(place, wide)
            undo.callback(node.graph.erase_node, wide)
    undo.callback(setattr, node, "args", original)
    result = node
    node.meta["val"] = value.reshape((1,) * missing + tuple(value.shape))
    for _ in range(missing):
        with node.graph.inserting_after(result):
            narrow = node.graph.call_function(_aten.squeeze.dim, (result, 0))
        narrow.meta = {**result.meta, "val": result.meta["val"].squeeze(0)}
        undo.callback(_take_out, narrow)
        result = narrow
    for user in users:
        user.replace_input_with(node, result)


def _take_out(node: torch.fx.Node) -> None:
    node.replace_all_uses_with(node.all_input_nodes[0])
    node.graph.erase_node(node)


_MAKERS = frozenset(
    {
        _aten.arange,
        _aten.ones,
        _aten.zeros,
        _aten.empty,
        _aten.full,
        _aten.eye,
        _aten.linspace,
        _aten.logspace,
    }
    | {_aten.bartlett_window, _aten.blackman_window, _aten.hamming_window, _aten.hann_window}
    | {_aten.kaiser_window, _aten.scalar_tensor}
)
_HALF = (torch.float16, torch.bfloat16)
_WIDENED = (
    _aten.abs, _aten.sum, _aten.prod, _aten.cumsum, _aten.cumprod, _aten.amax, _aten.amin, _aten.mse_loss,
)  # fmt: skip
_COMPUTED_OTHERWISE: dict[Any, tuple[torch.dtype, ...]] = {
    **dict.fromkeys(_WIDENED, _HALF),
    _aten.any: (torch.uint8,),
    _aten.all: (torch.uint8,),
}


def _drop_constant_outputs(output: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter takes every output that is not None for a tensor; the signature keeps the constants."""
    results = output.args[0]
    if not isinstance(results, (tuple, list)) or all(isinstance(r, torch.fx.Node) for r in results):
        return
    undo.callback(setattr, output, "args", output.args)
    output.args = (tuple(r if isinstance(r, torch.fx.Node) else None for r in results),)


def _flatten_interface(program: ExportedProgram, undo: ExitStack) -> None:
    """Containers that are not Python's own (a DynamicCache) would be built anew when it is traced again.

    What their code makes then would become part of the program. The signature of the capture keeps them.
    """
    entry = program.module_call_graph[0] if program.module_call_graph else None
    if entry is None or entry.signature is None:
        return
    given, results = entry.signature.in_spec, entry.signature.out_spec
    if _are_plain(given) and _are_plain(results):
        return
    inputs: Any = None
    if program.example_inputs is not None:
        inputs = (tuple(_pytree.tree_leaves(program.example_inputs)), {})
    undo.callback(setattr, program, "_example_inputs", program.example_inputs)
    undo.callback(setattr, program, "_guards_code", getattr(program, "_guards_code", []))
    undo.callback(setattr, entry, "signature", entry.signature)
    entry.signature = dataclasses.replace(
        entry.signature,
        in_spec=_pytree.tree_structure((tuple(range(given.num_leaves)), {})),
        out_spec=_pytree.tree_structure(tuple(range(results.num_leaves))),
        forward_arg_names=None,
    )
    program._example_inputs, program._guards_code = inputs, []  # the guards name what is no argument now


def _are_plain(spec: _pytree.TreeSpec) -> bool:
    if spec.is_leaf():
        return True
    return spec.type in (tuple, list, dict) and all(_are_plain(each) for each in spec.children())
