"""What an operator's translation looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Node:
    """What a translation may know of its node besides the inputs."""

    attributes: dict[str, Any]
    version: int  # of the default operator set
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)


Op = Callable[..., Any]  # (node, *inputs) -> a tensor, or a tuple of them; inputs left out are None


class Call:
    """An operator's translation, bound to one node."""

    def __init__(self, op: Op, attributes: dict[str, Any], version: int, outputs: int) -> None:
        self._op, self._node = op, Node(attributes, version, outputs)

    def __call__(self, *inputs: Tensor | None) -> Any:
        return self._op(self._node, *inputs)


def plain(function: Callable[..., Any]) -> Op:
    """A translation that needs nothing but the inputs."""
    return lambda node, *inputs: function(*inputs)


def ints(value: Any) -> list[int]:
    """A list of ints from an attribute or a tensor."""
    if isinstance(value, Tensor):
        return [int(x) for x in value.reshape(-1).tolist()]
    return [int(x) for x in value]


def dtype_of(onnx_type: int) -> torch.dtype:
    """The torch type of a TensorProto.DataType number."""
    return _DTYPES[onnx_type]


_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint32, 13: torch.uint64,
    14: torch.complex64, 15: torch.complex128, 16: torch.bfloat16,
}  # fmt: skip
