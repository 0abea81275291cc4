"""What kernels may round beyond what the graph says: a pass that may lose accuracy notes it at a weight."""

from __future__ import annotations

import onnx_ir as ir

_KEY = "optc.rounds_input"


def allow(codes: ir.Value) -> None:
    """Lets the product with these codes of a weight round its input to int8 as well, block by block."""
    codes.metadata_props[_KEY] = "int8"


def is_allowed(codes: ir.Value) -> bool:
    """Whether the product with these codes may. A model that came quantized says nothing: it may not."""
    return codes.metadata_props.get(_KEY) == "int8"
