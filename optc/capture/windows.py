"""Windows of signal processing, which are constants: torch makes them, with its own coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir import tensor_adapters
from onnxscript import opset18 as op


def _window(make: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def translation(window_length: Any, *shape: Any, dtype: int | None = None, **rest: Any) -> Any:
        """Of a length that is known, in float32 unless ``dtype`` says otherwise."""
        if not isinstance(window_length, int):
            raise NotImplementedError("the length of a window is not known")
        kind = torch.float32 if dtype in (None, -1) else tensor_adapters.to_torch_dtype(ir.DataType(dtype))
        made: Any = tensor_adapters.TorchTensor(make(window_length, *shape, dtype=kind))
        return op.Constant(value=made)

    return translation


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(getattr(_aten, make.__name__), overload): _window(make)
    for make in (
        torch.bartlett_window,
        torch.blackman_window,
        torch.hamming_window,
        torch.hann_window,
        torch.kaiser_window,
    )
    for overload in getattr(_aten, make.__name__).overloads()
    if not overload.endswith("out")
}
