"""The exceptions of ONNX Runtime."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

# Its own, which nothing else raises.
ORT_FAILURES: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)

# What it raises when it cannot load or run a model, or does not accept the inputs.
ORT_ERRORS: tuple[type[Exception], ...] = (*ORT_FAILURES, RuntimeError, ValueError)
