"""What is certain about values: constants, shapes over the symbols of the inputs, contents of shape tensors.

The rules of ``onnx_shape_inference``, with our corrections, are applied node by node, so that new nodes get
their facts at once. Declared shapes only fill in what the rules cannot tell: they may be stale.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from onnx_shape_inference import (
    SYM_DATA_KEY,
    OpUsageError,
    ShapeInferenceContext,
    ShapeInferenceError,
    registry,
)

from optc.analysis import shape_rules
from optc.analysis.shapes import constant_tensor
from optc.subgraphs import subgraphs

from .dims import Dim, Dims

_INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32})
_KNOWN = _INTEGERS | {ir.DataType.BOOL}  # comparisons of dims are followed too
_MAX_CONTENTS = 4096  # elements of an integer tensor that are looked at one by one
_LOOPS = frozenset({"Loop", "Scan"})
_FAILURES = (OpUsageError, ShapeInferenceError, ArithmeticError, LookupError, TypeError, ValueError)

logger = logging.getLogger("optc.simplify")


class _Context(ShapeInferenceContext):  # type: ignore[misc]  # the package ships no types
    """Keeps contents beside the graph instead of writing them into values and metadata."""

    def __init__(self, opset_imports: dict[str, int]) -> None:
        super().__init__(opset_imports, policy="override")
        self.contents: dict[ir.Value, list[Dim]] = {}

    def set_symbolic_value(self, value: ir.Value, data: list[Dim]) -> None:
        if value.dtype not in _KNOWN or value.shape is None or len(value.shape) > 1:
            return
        size = value.shape[0] if len(value.shape) == 1 else 1
        if size == len(data) <= _MAX_CONTENTS:
            self.contents[value] = list(data)

    def get_symbolic_value(self, value: ir.Value) -> list[Dim] | None:
        known = self.contents.get(value)
        if known is not None:
            return known
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None or tensor.dtype not in _INTEGERS or len(tensor.shape) > 1:
            return None
        return [int(x) for x in tensor.numpy().reshape(-1)] if tensor.size <= _MAX_CONTENTS else None


class Facts:
    """Answers about the values of one model; made once per round of rewriting."""

    def __init__(self, model: ir.Model, declared: dict[ir.Value, ir.Shape | None]) -> None:
        shape_rules.install()
        self._context = _Context(dict(model.opset_imports))
        self._opsets = model.opset_imports
        self._declared = declared
        self._loops: set[ir.Graph] = set()
        self._context.reserve_symbol_names(_symbols(model))
        for value in model.graph.inputs:
            if value.shape is not None:
                value.shape = self._parsable(value.shape)
        self._infer(model.graph)

    def const(self, value: ir.Value | None) -> ir.TensorProtocol | None:
        """The tensor of an initializer that no caller can override, or of a Constant node."""
        return constant_tensor(value)

    def array(self, value: ir.Value | None, *, limit: int = _MAX_CONTENTS) -> np.ndarray | None:
        """The constant as an array, when it has at most ``limit`` elements and is no string."""
        tensor = self.const(value)
        if tensor is None or tensor.size > limit or tensor.dtype == ir.DataType.STRING:
            return None
        return tensor.numpy()

    def ints(self, value: ir.Value | None) -> list[int] | None:
        """The contents of an integer tensor of rank 0 or 1 when all are known numbers."""
        contents = self.contents(value)
        if contents is None or not all(isinstance(item, int) for item in contents):
            return None
        return [item for item in contents if isinstance(item, int)]

    def contents(self, value: ir.Value | None) -> list[Dim] | None:
        """The elements of an integer tensor of rank 0 or 1 as numbers or expressions."""
        if value is None or value.is_graph_input():
            return None
        return self._context.get_symbolic_value(value)

    def shape(self, value: ir.Value | None) -> Dims | None:
        """The dims, or None when not even the rank is certain."""
        if value is None:
            return None
        tensor = self.const(value)
        if tensor is not None:
            return tuple(tensor.shape.numpy())
        if value.shape is None or value.graph in self._loops:
            return None
        return tuple(value.shape)

    def rank(self, value: ir.Value | None) -> int | None:
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        if value is None:
            return None
        tensor = self.const(value)
        return tensor.dtype if tensor is not None else value.dtype

    def inherit(self, old: ir.Value, new: ir.Value) -> None:
        """``new`` stands for ``old`` from now on: what was known of one is known of both."""
        if self._declared.get(new) is None:
            self._declared[new] = self._declared.get(old)
        if new.type is None:
            new.type = old.type
        if new.shape is None:
            new.shape = old.shape
        if old in self._context.contents:
            self._context.contents.setdefault(new, self._context.contents[old])

    def update(self, node: ir.Node) -> None:
        """Works out the facts about the outputs of ``node``."""
        for _, subgraph in subgraphs(node):
            if node.op_type in _LOOPS:
                self._mark_loop(subgraph)
            else:
                self._infer(subgraph)
        version = self._opsets.get(node.domain)
        rule = None if version is None else registry.get(node.domain, node.op_type, version)
        if rule is None or node.op_type in _LOOPS or _has_references(node):
            return
        for value in node.inputs:
            if value is not None:
                self._context.name_anonymous_dims(value)
        for value in node.outputs:
            value.shape = value.const_value = None  # what an earlier inference left there may be stale
            value.metadata_props.pop(SYM_DATA_KEY, None)
            self._context.contents.pop(value, None)
        try:
            rule(self._context, node)
        except _FAILURES as error:
            # A rule that gives up leaves the facts of this one node unknown.
            logger.debug("no shape for %s %s: %s", node.op_type, node.name, error)
            for value in node.outputs:
                value.shape = None
        for value in node.outputs:
            value.shape = self._merge(value.shape, self._declared.get(value))

    def _infer(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.shape = ir.Shape(value.const_value.shape.numpy())
        for node in graph:
            self.update(node)

    def _mark_loop(self, graph: ir.Graph) -> None:
        """The shapes in the body of a loop may change from one iteration to the next."""
        self._loops.add(graph)
        for node in graph.all_nodes():
            for _, subgraph in subgraphs(node):
                self._loops.add(subgraph)

    def _merge(self, inferred: ir.Shape | None, declared: ir.Shape | None) -> ir.Shape | None:
        if inferred is None:
            return None if declared is None else self._parsable(declared)
        if declared is None or len(declared) != len(inferred):
            return inferred
        pairs = zip(inferred, self._parsable(declared), strict=True)
        return ir.Shape([self._merge_dim(found, said) for found, said in pairs])

    def _merge_dim(self, found: Dim, said: Dim) -> Dim:
        """What inference found, unless that is a stopgap and the file has a name for it.

        A number in the file is not believed: files whose inputs were made dynamic keep the old numbers.
        """
        if isinstance(found, int) or isinstance(said, int):
            return found
        vague = any(word in (found.value or "") for word in ("Min(", "Max(", "floor(")) or any(
            self._context.is_generated_symbol(symbol) for symbol in found.free_symbols()
        )
        return said if vague else found

    def _parsable(self, shape: ir.Shape) -> ir.Shape:
        """Gives a fresh symbol to dims without a name, or with one that is no expression."""
        return ir.Shape([dim if _is_expression(dim) else self._context.new_symbolic_dim() for dim in shape])


@contextmanager
def overridable_defaults_hidden(model: ir.Model) -> Iterator[None]:
    """Initializers that are graph inputs are defaults, no constants: nothing sees their data meanwhile."""
    hidden = [(value, value.const_value) for value in model.graph.inputs if value.const_value is not None]
    for value, _ in hidden:
        value.const_value = None
    try:
        yield
    finally:
        for value, tensor in hidden:
            value.const_value = tensor


def _is_expression(dim: Dim) -> bool:
    if isinstance(dim, int):
        return True
    if dim.value is None:
        return False
    try:
        return dim.value.isidentifier() or bool(dim.free_symbols())
    except ValueError:
        return False


def _symbols(model: ir.Model) -> set[str]:
    names: set[str] = set()
    for graph in model.graphs():
        values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
        for value in values:
            for dim in value.shape or ():
                if isinstance(dim, ir.SymbolicDim) and _is_expression(dim):
                    names |= dim.free_symbols()
    return names


def _has_references(node: ir.Node) -> bool:
    return any(attribute.is_ref() for attribute in node.attributes.values())
