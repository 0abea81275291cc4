"""The calling convention of an ExportedProgram."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch.export import ExportedProgram
from torch.export import graph_signature as gs
from torch.utils import _pytree

from optc.errors import CaptureError

from .signature import Parameter, Signature
from .structure import Branch, Const, Leaf, Structure
from .treespec import Path, from_treespec, join

_Kind = inspect.Parameter
_SCALARS = {gs.SymIntArgument: "int", gs.SymFloatArgument: "float", gs.SymBoolArgument: "bool"}


def signature_of(
    program: ExportedProgram, forward: inspect.Signature | None = None
) -> tuple[Signature, list[str], list[str]]:
    """The signature, and the names of the graph's inputs and outputs in graph order.

    Inputs are named after the parameter of ``forward`` and the place in it (``x``, ``xs_0``, ``xs_key``),
    outputs after their place in the result (``last_hidden_state``, ``output``, ``output_0``).

    Args:
        forward: of the module; without it, what the program remembers of it.

    Raises:
        CaptureError: an input or output is neither a tensor, nor a number, nor a constant.
    """
    specs = program.graph_signature
    inputs = _Names([spec.arg for spec in specs.input_specs if spec.kind is gs.InputKind.USER_INPUT])
    outputs = _Names(
        [spec.arg for spec in specs.output_specs if spec.kind is gs.OutputKind.USER_OUTPUT], inputs.names
    )
    in_spec, out_spec = program.call_spec.in_spec, program.call_spec.out_spec
    parameters = _parameters(in_spec, inputs, forward or _remembered(program))
    return Signature(parameters, outputs.result(out_spec)), inputs.names, outputs.names


class _Names:
    """Turns the leaves of a structure, in order, into named ones; ``names`` are those of tensors so far."""

    def __init__(self, arguments: Sequence[Any], taken: Sequence[str] = ()) -> None:
        self._arguments = iter(arguments)
        self._taken = taken
        self.names: list[str] = []

    def structure(self, prefix: str, spec: _pytree.TreeSpec) -> Structure:
        """An argument; its leaves are called ``prefix_path``."""
        return from_treespec(spec, lambda path: self._leaf(prefix, path))

    def result(self, spec: _pytree.TreeSpec) -> Structure:
        """A result; its leaves are called by their keys, or ``output_path`` if the first is a number."""
        return from_treespec(
            spec, lambda path: self._leaf("" if path and isinstance(path[0], str) else "output", path)
        )

    def _leaf(self, prefix: str, path: Path) -> Structure:
        argument, name = next(self._arguments), join(prefix, path)
        if isinstance(argument, gs.ConstantArgument):
            return Const(argument.value)
        if not isinstance(argument, (gs.TensorArgument, *_SCALARS)):
            raise CaptureError(f"a {type(argument).__name__} cannot be an input or output", where=name)
        if name in self._taken:
            name = f"{name}_out"
        while name in self.names or name in self._taken:
            name += "_"
        self.names.append(name)
        return Leaf(name, _SCALARS.get(type(argument), ""))


def _parameters(
    in_spec: _pytree.TreeSpec, names: _Names, forward: inspect.Signature
) -> tuple[Parameter, ...]:
    """The structure of every parameter; leaves are taken in torch's order, positional arguments first."""
    args, kwargs = in_spec.children()
    positional = _names_of(forward, _Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)
    given = {
        name: names.structure(name, spec) for name, spec in zip(positional, args.children(), strict=False)
    }
    more = [
        names.structure(f"{_names_of(forward, _Kind.VAR_POSITIONAL)[0]}_{place}", spec)
        for place, spec in enumerate(args.children()[len(positional) :])
    ]
    keywords = {
        name: names.structure(name, spec)
        for name, spec in zip(kwargs.context or (), kwargs.children(), strict=True)
    }
    given |= {name: keywords.pop(name) for name in list(keywords) if name in forward.parameters}
    if more:
        variadic = _names_of(forward, _Kind.VAR_POSITIONAL)[0]
        given[variadic] = Branch("tuple", tuple(range(len(more))), tuple(more))
    if keywords:
        variadic = _names_of(forward, _Kind.VAR_KEYWORD)[0]
        given[variadic] = Branch("dict", tuple(keywords), tuple(keywords.values()))
    return tuple(
        Parameter(p.name, given.get(p.name, _default(p)), p.kind.name) for p in forward.parameters.values()
    )


def _names_of(forward: inspect.Signature, *kinds: inspect._ParameterKind) -> list[str]:
    return [p.name for p in forward.parameters.values() if p.kind in kinds]


def _default(parameter: inspect.Parameter) -> Const | None:
    """A default that is a plain constant may be given again at a call."""
    plain = type(parameter.default) in (bool, int, float, str)
    return Const(parameter.default) if plain else None


def _remembered(program: ExportedProgram) -> inspect.Signature:
    """A ``forward`` made of the parameter names that torch.export has kept."""
    args, kwargs = program.call_spec.in_spec.children()
    keywords = list(kwargs.context or ())
    names = list(program.module_call_graph[0].signature.forward_arg_names or ())
    positional = [name for name in names if name not in keywords][: len(args.children())]
    if len(positional) < len(args.children()):
        positional = [f"arg_{index}" for index in range(len(args.children()))]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in (*positional, *keywords)])
