"""Inserting the nodes of a lowering before the call that they replace."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.codegen.ort.kernels import CONTRIB
from optc.target import SCRATCH

Dims = Sequence[Any]


class Refuse(Exception):
    """A lowering cannot take this call; the text says why."""


class Scratch:
    """What the lowered calls of one model share: names in use, equal nodes, small constants."""

    def __init__(self, model: ir.Model) -> None:
        graphs = [model.graph, *model.graph.subgraphs()]
        self.names = {str(v.name) for g in graphs for v in (*g.inputs, *g.initializers.values())}
        self.names |= {str(v.name) for node in model.graph.all_nodes() for v in node.outputs}
        self.counter = 0
        self.shared: dict[Hashable, ir.Value] = {}
        self.constants: dict[Hashable, ir.Value] = {}

    def fresh(self, hint: str) -> str:
        """A value name that the model does not have."""
        while True:
            name = f"{hint}__{self.counter}"
            self.counter += 1
            if name not in self.names:
                return name


class Builder:
    """Inserts nodes before one call of a fused function, or before another node.

    ``args`` are the call's inputs by the names of the function's formal inputs; optional ones that the call
    leaves out are absent.
    """

    def __init__(self, call: ir.Node, function: ir.Function | None, model: ir.Model) -> None:
        assert call.graph is not None
        self.call, self.graph, self.model = call, call.graph, model
        self._scratch: Scratch = model.meta.setdefault(SCRATCH, None) or Scratch(model)
        model.meta[SCRATCH] = self._scratch
        self.inserted = 0
        pairs = zip(() if function is None else function.inputs, call.inputs, strict=False)
        self.args = {str(formal.name): actual for formal, actual in pairs if actual is not None}

    def arg(self, name: str) -> ir.Value:
        """A required input of the call."""
        if name not in self.args:
            raise Refuse(f"the call has no input {name!r}")
        return self.args[name]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute of the call."""
        found = self.call.attributes.get(name)
        return default if found is None else found.value

    def text(self, name: str) -> str | None:
        """A string attribute of the call."""
        found = self.call.attributes.get(name)
        return None if found is None else found.as_string()

    def activation(self) -> tuple[tuple[str, Any], ...]:
        """The attributes of the call that say which activation follows; empty when none does."""
        if not self.text("activation"):
            return ()
        names = sorted(name for name in self.call.attributes if name.startswith("activation"))
        return tuple((name, _plain(self.call.attributes[name])) for name in names)

    def dtype(self, name: str) -> ir.DataType:
        """The element type of an input of the call."""
        dtype = self.arg(name).dtype
        if dtype is None:
            raise Refuse(f"the type of {name} is unknown")
        return dtype

    def shape(self, name: str) -> ir.Shape:
        """The shape of an input of the call, whose rank must be known."""
        shape = self.arg(name).shape
        if shape is None:
            raise Refuse(f"the rank of {name} is unknown")
        return shape

    def constant(self, array: np.ndarray[Any, Any], hint: str) -> ir.Value:
        """An initializer of the main graph with these contents; equal small ones are one."""
        if array.nbytes > 1024:
            return self.weight(ir.tensor(array), hint)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._scratch.constants:
            self._scratch.constants[key] = self.weight(ir.tensor(array), hint)
        return self._scratch.constants[key]

    def weight(self, tensor: ir.TensorProtocol, hint: str) -> ir.Value:
        """An initializer of the main graph that holds a tensor as it is, unevaluated if it is lazy."""
        name = self._scratch.fresh(hint)
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def weight_once(self, key: Hashable, make: Callable[[], ir.TensorProtocol], hint: str) -> ir.Value:
        """An initializer that all who ask with an equal key share."""
        if key not in self._scratch.shared:
            self._scratch.shared[key] = self.weight(make(), hint)
        return self._scratch.shared[key]

    def ints(self, *numbers: int) -> ir.Value:
        """A 1-D int64 constant."""
        return self.constant(np.array(numbers, np.int64), "ints")

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        attrs: Mapping[str, Any] | None = None,
        dtype: ir.DataType | None = None,
        shape: Dims | ir.Shape | None = None,
        contrib: bool = False,
    ) -> ir.Value:
        """The one output of a new node; its type is that of the first input when ``dtype`` is not given."""
        first = next((i for i in inputs if i is not None), None)
        out = ir.Value(
            name=self._scratch.fresh(op_type.lower()),
            shape=None if shape is None else ir.Shape(shape),
            type=ir.TensorType(dtype) if dtype is not None else None if first is None else first.type,
        )
        self.insert(op_type, inputs, [out], attrs=attrs, contrib=contrib)
        return out

    def insert(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[ir.Value],
        *,
        attrs: Mapping[str, Any] | None = None,
        contrib: bool = False,
    ) -> ir.Node:
        """A new node with these outputs, before the call."""
        if contrib:
            self.model.opset_imports.setdefault(CONTRIB, 1)
        node = ir.node(
            op_type,
            list(inputs),
            attributes={k: v for k, v in (attrs or {}).items() if v is not None},
            domain=CONTRIB if contrib else "",
            outputs=list(outputs),
            name=f"node_{outputs[0].name}",
        )
        if source := self.call.metadata_props.get("optc.source"):
            node.metadata_props["optc.source"] = source
        self.graph.insert_before(self.call, node)
        self.inserted += 1
        return node

    def result(self, index: int = 0, shape: ir.Shape | None = None) -> ir.Value:
        """A new value with the type of an output of the call."""
        old = self.call.outputs[index]
        return ir.Value(
            name=self._scratch.fresh(str(old.name)), shape=_copy(shape or old.shape), type=old.type
        )

    def shared(
        self,
        op_type: str,
        *inputs: ir.Value,
        attrs: Mapping[str, Any] | None = None,
        dtype: ir.DataType | None = None,
        shape: Dims | ir.Shape | None = None,
    ) -> ir.Value:
        """Like ``op``, for what several calls have in common: an equal node that exists is used again.

        Calls are lowered in graph order, so such a node comes before this call.
        """
        key = (self.graph, op_type, inputs, repr(sorted((attrs or {}).items())))
        if key not in self._scratch.shared:
            self._scratch.shared[key] = self.op(op_type, *inputs, attrs=attrs, dtype=dtype, shape=shape)
        return self._scratch.shared[key]

    def shared_codes(self, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """uint8 codes, scale and zero point of ``x``, computed once for all calls that read it."""
        key = (self.graph, "DynamicQuantizeLinear", x)
        if key not in self._scratch.shared:
            codes, scale, zero = (
                ir.Value(name=self._scratch.fresh(f"{x.name}_{what}"), shape=shape, type=ir.TensorType(dtype))
                for what, dtype, shape in (
                    ("codes", ir.DataType.UINT8, _copy(x.shape)),
                    ("scale", ir.DataType.FLOAT, ir.Shape([])),
                    ("zero", ir.DataType.UINT8, ir.Shape([])),
                )
            )
            self.insert("DynamicQuantizeLinear", [x], [codes, scale, zero])
            self._scratch.shared[key] = codes
        maker = self._scratch.shared[key].producer()
        assert maker is not None
        return maker.outputs[0], maker.outputs[1], maker.outputs[2]


def _plain(attribute: ir.Attr) -> Any:
    return tuple(attribute.value) if isinstance(attribute.value, list | tuple) else attribute.value


def _copy(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else shape.copy()
