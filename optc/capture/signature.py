"""How a model is called: Python arguments to graph inputs, graph outputs to the model's own result."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optc.errors import UserError

from .structure import Branch, Json, Leaf, Structure, flatten, from_json, leaves, to_json, unflatten

_KINDS = {kind.name: kind for kind in inspect._ParameterKind}


@dataclass(frozen=True)
class Parameter:
    """A parameter of the model's ``forward``.

    ``structure`` is None when the example left it out, and its default is not a plain constant: such a
    parameter accepts only None.
    """

    name: str
    structure: Structure | None
    kind: str = "POSITIONAL_OR_KEYWORD"  # a name of inspect._ParameterKind


@dataclass(frozen=True)
class Signature:
    """The calling convention of a captured model.

    Attributes:
        parameters: of ``forward``, in its order; for an ONNX model one per graph input.
        output: the structure of the result.
    """

    parameters: tuple[Parameter, ...]
    output: Structure

    @classmethod
    def of_names(
        cls,
        inputs: Sequence[str],
        outputs: Sequence[str],
        optional: Iterable[str] = (),
        defaults: Iterable[str] = (),
    ) -> Signature:
        """One argument per input, by position or by name; a single output, or a tuple of them.

        Args:
            optional: the inputs that may be None.
            defaults: the inputs that may be left out, since the graph has a value for them.
        """
        absent, filled = frozenset(optional), frozenset(defaults)
        parameters = tuple(
            Parameter(name, Leaf(name, optional=name in absent, default=name in filled)) for name in inputs
        )
        results = tuple(Leaf(name) for name in outputs)
        return cls(parameters, results[0] if len(results) == 1 else Branch("tuple", _range(results), results))

    @property
    def input_names(self) -> list[str]:
        """The graph inputs, in graph order."""
        return [leaf.name for p in self.parameters if p.structure for leaf in leaves(p.structure)]

    @property
    def output_names(self) -> list[str]:
        """The graph outputs, in graph order."""
        return [leaf.name for leaf in leaves(self.output)]

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every graph input, by name; the values themselves are not looked at.

        Raises:
            UserError: the arguments do not fit the signature.
        """
        bound = self._bind(args, kwargs)
        feeds: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in bound:
                feeds.update(_feeds(parameter, bound[parameter.name]))
            elif parameter.structure is not None:
                feeds.update(_absent(parameter))
        return feeds

    def unflatten(self, values: Mapping[str, Any]) -> Any:
        """The result that the model itself would return, from the graph outputs by name."""
        return unflatten(self.output, values)

    def to_json(self) -> Json:
        """Plain data; `from_json` gives an equal signature."""
        return {"parameters": [_parameter_json(p) for p in self.parameters], "output": to_json(self.output)}

    @classmethod
    def from_json(cls, data: Json) -> Signature:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is not such data.
        """
        try:
            return cls(tuple(map(_parameter, data["parameters"])), from_json(data["output"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a signature: {error!r}") from error

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if self._python is None:
            return _bind_by_name(self.parameters, args, kwargs)
        try:
            return dict(self._python.bind_partial(*args, **kwargs).arguments)
        except TypeError as error:
            raise UserError(
                f"the arguments do not fit: {error}", where=f"forward{self._python}", hint=_INPUTS_HINT
            ) from error

    @cached_property
    def _python(self) -> inspect.Signature | None:
        """None where the names are no Python identifiers (an ONNX input may be called "x:0")."""
        if not all(p.name.isidentifier() for p in self.parameters):
            return None
        try:
            return inspect.Signature([inspect.Parameter(p.name, _KINDS[p.kind]) for p in self.parameters])
        except ValueError:  # a Python keyword as a name, or names out of order
            return None


_INPUTS_HINT = "call it as the model is called; `signature.input_names` lists the graph's inputs"


def _bind_by_name(
    parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    names = [p.name for p in parameters]
    if len(args) > len(names):
        raise UserError(f"{len(args)} arguments for {len(names)} inputs", where=", ".join(names))
    bound = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in bound:
            what = "is given twice" if name in bound else "is no input"
            raise UserError(f"{name!r} {what}", where=", ".join(names), hint=_INPUTS_HINT)
        bound[name] = value
    return bound


def _feeds(parameter: Parameter, value: Any) -> dict[str, Any]:
    if parameter.structure is not None:
        return dict(flatten(parameter.structure, value, parameter.name))
    if value is None or (parameter.kind.startswith("VAR_") and not value):
        return {}
    raise UserError(
        f"the model was captured without {parameter.name!r}",
        where=f"argument {parameter.name}",
        hint="capture the model again with that argument among the example inputs",
    )


def _absent(parameter: Parameter) -> dict[str, Any]:
    """Feeds for an argument that the caller left out: fine as long as no tensor is missing."""
    structure = parameter.structure
    assert structure is not None
    missing = [leaf.name for leaf in leaves(structure) if not (leaf.optional or leaf.default)]
    if missing:
        raise UserError(
            f"no value for {', '.join(missing)}", where=f"argument {parameter.name}", hint=_INPUTS_HINT
        )
    return {leaf.name: None for leaf in leaves(structure) if leaf.optional}


def _range(items: Sequence[Any]) -> tuple[int, ...]:
    return tuple(range(len(items)))


def _parameter_json(parameter: Parameter) -> Json:
    data: dict[str, Json] = {"name": parameter.name}
    if parameter.structure is not None:
        data["structure"] = to_json(parameter.structure)
    if parameter.kind != "POSITIONAL_OR_KEYWORD":
        data["kind"] = parameter.kind
    return data


def _parameter(data: Json) -> Parameter:
    structure = from_json(data["structure"]) if "structure" in data else None
    kind = str(data.get("kind", "POSITIONAL_OR_KEYWORD"))
    if kind not in _KINDS:
        raise ValueError(f"not a parameter kind: {kind!r}")
    return Parameter(str(data["name"]), structure, kind)
