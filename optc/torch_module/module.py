"""A torch module that interprets an ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from torch import nn

from optc import values
from optc.capture.signature import Signature
from optc.errors import UserError
from optc.match import constant
from optc.rewrite import opset

from .attention import ATTENTION_OPS
from .contrib import CONTRIB_OPS
from .neural import NEURAL_OPS
from .pointwise import POINTWISE_OPS
from .shaping import SHAPING_OPS, SIZE_INPUTS
from .table import Call, Op

if TYPE_CHECKING:
    from optc.artifact import Artifact

_STANDARD = {**POINTWISE_OPS, **SHAPING_OPS, **NEURAL_OPS, **ATTENTION_OPS}
_OPS: dict[tuple[str, str], Op] = {
    **{("", name): op for name, op in _STANDARD.items()},
    **{("com.microsoft", name): op for name, op in CONTRIB_OPS.items()},
}
# Where more than the first output is made: all of them, or so many.
_ALL_OUTPUTS = ("Split", "Dropout", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
_FIRST_OUTPUTS = {"Attention": 3}


@dataclass(frozen=True)
class _Step:
    """One node: what computes it, what it reads and writes, and which values nobody reads afterwards.

    ``bound`` are inputs that are known numbers, by position.
    """

    run: Callable[..., Any]
    inputs: tuple[str, ...]  # "" is an optional input that is left out
    outputs: tuple[str, ...]
    dead: tuple[str, ...]
    bound: Mapping[int, list[int]]


class OptimizedModule(nn.Module):
    """Computes an ONNX graph with torch ops; called like the module that was compiled.

    Floating-point weights with more than one element are parameters, under the names that they have in the
    source where those are dotted paths; other constants are buffers.
    """

    def __init__(self, model: ir.Model, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        self._holders: dict[str, tuple[nn.Module, str]] = {}
        for name, value in model.graph.initializers.items():
            if value.const_value is not None:
                self._hold(str(name), value.const_value)
        self._outputs = [str(value.name) for value in model.graph.outputs]
        self._steps = _steps(model)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Torch tensors in, and the source's own output structure of torch tensors out."""
        known: dict[str, Any] = {name: getattr(owner, leaf) for name, (owner, leaf) in self._holders.items()}
        known.update(self.signature.flatten(args, kwargs))
        for step in self._steps:
            results = step.run(*(_given(step, i, known) for i in range(len(step.inputs))))
            results = results if isinstance(results, tuple) else (results,)
            known.update(zip(step.outputs, results, strict=False))
            for name in step.dead:
                del known[name]
        return self.signature.unflatten({name: known[name] for name in self._outputs})

    def _hold(self, name: str, tensor: ir.TensorProtocol) -> None:
        """Registers a weight at its dotted path, or flat where the path is taken or no path."""
        data = values.to_torch(np.array(tensor.numpy()))
        owner, leaf = self._place(name)
        if data.is_floating_point() and data.numel() > 1:
            owner.register_parameter(leaf, nn.Parameter(data))
        else:
            owner.register_buffer(leaf, data)
        self._holders[name] = (owner, leaf)

    def _place(self, name: str) -> tuple[nn.Module, str]:
        owner: nn.Module = self
        *path, leaf = name.split(".")
        for part in path:
            if not part or (hasattr(owner, part) and part not in owner._modules):
                return self, self._flat(name)
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner._modules[part] or owner
        return (owner, leaf) if leaf and not hasattr(owner, leaf) else (self, self._flat(name))

    def _flat(self, name: str) -> str:
        flat = "constant_" + name.replace(".", "_")
        while hasattr(self, flat):
            flat += "_"
        return flat


def to_module(artifact: Artifact) -> OptimizedModule:
    """A trainable module that computes what the artifact's program computes.

    Raises:
        UserError: the program uses operators that have no translation; all of them are named.
    """
    model = artifact.model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(
        model
    )  # weights may lie in Constant nodes
    return OptimizedModule(model, artifact.signature)


def _steps(model: ir.Model) -> list[_Step]:
    nodes = list(model.graph)
    _check_supported(nodes)
    last = {str(value.name): i for i, node in enumerate(nodes) for value in node.inputs if value is not None}
    kept = {
        str(v.name) for v in (*model.graph.outputs, *model.graph.inputs, *model.graph.initializers.values())
    }
    steps = []
    for i, node in enumerate(nodes):
        read = tuple("" if value is None else str(value.name) for value in node.inputs)
        dead = tuple(sorted({name for name in read if name and last[name] == i} - kept))
        op = _OPS[_key(node)]
        attributes = {name: _attribute(attribute) for name, attribute in node.attributes.items()}
        call = Call(op, attributes, opset(model), len(node.outputs))
        steps.append(_Step(call, read, tuple(str(value.name) for value in node.outputs), dead, _bound(node)))
    return steps


def _given(step: _Step, position: int, known: Mapping[str, Any]) -> Any:
    if position in step.bound:
        return step.bound[position]
    name = step.inputs[position]
    return known[name] if name else None


def _bound(node: ir.Node) -> dict[int, list[int]]:
    positions = [i for i in SIZE_INPUTS.get(node.op_type, ()) if i < len(node.inputs) and not node.domain]
    return {
        i: array.reshape(-1).tolist() for i in positions if (array := constant(node.inputs[i])) is not None
    }


def _key(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _check_supported(nodes: list[ir.Node]) -> None:
    missing = Counter(node.op_type for node in nodes if _key(node) not in _OPS or _wants_more(node))
    if missing:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(missing.items()))
        hint = "compile with a pipeline that does not introduce them, or use the artifact itself"
        raise UserError(f"no translation to torch for the operators {names}", where="to_module", hint=hint)


def _wants_more(node: ir.Node) -> bool:
    """Whether somebody reads an output that the translation does not make."""
    if node.op_type in _ALL_OUTPUTS:
        return False
    first = _FIRST_OUTPUTS.get(node.op_type, 1)
    return any(value.uses() or value.is_graph_output() for value in node.outputs[first:])


def _attribute(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return values.to_torch(attribute.as_tensor().numpy())
    if attribute.type == ir.AttributeType.STRING:
        return attribute.as_string()
    return list(attribute.value) if attribute.type == ir.AttributeType.INTS else attribute.value
