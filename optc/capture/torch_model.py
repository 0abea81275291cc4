"""PyTorch models into the IR: nn.Module and fx.GraphModule through torch.export, ExportedProgram as it is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree

from optc.errors import CaptureError

from . import dims
from .arguments import call_of, to_numpy
from .captured import Captured
from .convert import to_ir
from .interface import name_interface
from .program import export
from .provenance import keep_sources_only
from .torch_signature import signature_of
from .weights import share_tied


def capture_module(
    module: torch.nn.Module, example_inputs: Any, dynamic_shapes: Any = None, *, note: str = "given"
) -> Captured:
    """Captures a module as it computes in evaluation mode; the module stays as it is, its weights are shared.

    Args:
        example_inputs: a tensor, a tuple of arguments, or a dict of them by parameter name, nested as
            torch.export allows.
        dynamic_shapes: as torch.export takes it; strings are names of dims too.

    Raises:
        UserError: the inputs or shapes do not fit the module.
        CaptureError: torch.export or the conversion fails; says where in the model's code, and what to do.
    """
    call = call_of(module, example_inputs)
    shapes = dims.for_torch(dynamic_shapes, call, module)
    program = export(module, call, shapes)
    leaves = _pytree.tree_leaves((call.args, call.kwargs))
    return _captured(
        program, type(module).__name__, leaves, note, call.forward, dims.leaf_specs(shapes, call)
    )


def capture_program(program: ExportedProgram, source: str) -> Captured:
    """Captures an ExportedProgram, which stays as it is; dims are named after their first input."""
    args, kwargs = program.example_inputs or ((), {})
    leaves = _pytree.tree_leaves((args, kwargs))
    return _captured(program, source, leaves, "given")


def _captured(
    program: ExportedProgram,
    source: str,
    leaves: Sequence[Any],
    note: str,
    forward: inspect.Signature | None = None,
    specs: Sequence[Any] = (),
) -> Captured:
    _check_results(program)
    signature, inputs, outputs = signature_of(program, forward)
    fakes = _input_values(program)
    tensors = [index for index, fake in enumerate(fakes) if fake is not None]
    symbols = dims.symbol_names(
        [(name, fakes[i], specs[i] if specs else None) for name, i in zip(inputs, tensors, strict=True)]
    )
    model = to_ir(program, source)
    keep_sources_only(model)
    share_tied(model)
    name_interface(model, inputs, outputs)
    dims.rename(model, symbols, program.range_constraints)
    feeds = {name: _array(leaves[i]) for name, i in zip(inputs, tensors, strict=True)} if leaves else None
    return Captured(model, source, [feeds] if feeds is not None else [], note, signature)


def _input_values(program: ExportedProgram) -> list[Any]:
    """Per user input its fake tensor or symbolic number, or None for a constant."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    specs = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    return [None if isinstance(arg, ConstantArgument) else values[arg.name] for arg in specs]


def _check_results(program: ExportedProgram) -> None:
    """The exporter would give a real tensor with one more axis instead of a complex one."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    if all(values.get(name) is None for name in program.graph_signature.user_outputs):
        raise CaptureError("the model returns no tensor", hint="return what is to be computed")
    for place, name in enumerate(program.graph_signature.user_outputs):
        if isinstance(value := values.get(name), torch.Tensor) and value.is_complex():
            hint = "return the real and imaginary parts as a last axis of 2 (torch.view_as_real)"
            raise CaptureError("complex results are not supported", where=f"result {place}", hint=hint)


def _array(value: Any) -> np.ndarray[Any, Any]:
    return to_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)
