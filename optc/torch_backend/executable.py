"""Running an ONNX Runtime session on torch memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from optc.codegen.ort.options import DEFAULTS, session_options

_MODEL = "model.onnx"

# Types that numpy lacks go by DLPack, which takes a little longer.
_NUMPY_TYPES = frozenset(
    f"tensor({name})"
    for name in ("float", "double", "float16", "bool", "int8", "int16", "int32", "int64")
    + ("uint8", "uint16", "uint32", "uint64")
)


class Executable:
    """Calls a session with tensors and gets tensors; nothing is copied that is laid out in the usual way.

    Inputs are read where they are. The results are the runtime's own buffers, which live as long as the
    tensors do. It may be called from several threads at once.
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self._session = session
        self._inputs = [arg.name for arg in inputs]
        self._outputs = [arg.name for arg in outputs]
        self.shapes = [arg.shape for arg in inputs]
        plain = all(arg.type in _NUMPY_TYPES for arg in (*inputs, *outputs))
        self._run: Callable[[Sequence[Any]], list[torch.Tensor]] = (
            self._by_array if plain else self._by_dlpack
        )

    @classmethod
    def open(cls, directory: Path, options: Mapping[str, Any]) -> Executable:
        """The program of an artifact directory; raises what ONNX Runtime raises."""
        return cls(
            ort.InferenceSession(
                str(directory / _MODEL),
                session_options({**DEFAULTS, **options}),
                providers=["CPUExecutionProvider"],
            )
        )

    def __call__(self, values: Sequence[Any]) -> list[torch.Tensor]:
        """Runs once; ``values`` are dense CPU tensors and whole numbers, in the order of the inputs."""
        return self._run(values)

    def _by_array(self, values: Sequence[Any]) -> list[torch.Tensor]:
        feeds = {name: _array(value) for name, value in zip(self._inputs, values, strict=True)}
        return [torch.from_numpy(array) for array in self._session.run(self._outputs, feeds)]

    def _by_dlpack(self, values: Sequence[Any]) -> list[torch.Tensor]:
        feeds = {name: _ort_value(value) for name, value in zip(self._inputs, values, strict=True)}
        results = self._session.run_with_ort_values(self._outputs, feeds)
        return [_tensor(value) for value in results]


def _array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, torch.Tensor):
        return value.detach().contiguous().resolve_conj().resolve_neg().numpy()
    return np.asarray(value, np.int64)


def _ort_value(value: Any) -> ort.OrtValue:
    tensor = value.detach() if isinstance(value, torch.Tensor) else torch.tensor(value)
    if tensor.dtype == torch.bool:  # torch exports a type for which the runtime expects bytes
        return ort.OrtValue.ortvalue_from_numpy(_array(tensor))
    return ort.OrtValue.from_dlpack(tensor.contiguous().resolve_neg())


def _tensor(value: ort.OrtValue) -> torch.Tensor:
    tensor = torch.utils.dlpack.from_dlpack(value)
    return tensor.view(torch.bool) if value.data_type() == "tensor(bool)" else tensor
