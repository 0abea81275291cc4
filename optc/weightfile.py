"""Weights of many variants of a model in one temporary file, which their sessions map."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from optc.scratch import Scratch
from optc.session import detach, open_detached, reference

_NAME = "weights"
_PAGE = 4096  # mapped weights are used where they are when they are aligned


class WeightFile:
    """A file to which each weight is written once, however many models have it.

    Sessions that map it start in a fraction of the time, and with one copy of the weights less each, than
    sessions that are handed the weights in memory. The file goes with this object.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._file = (self._scratch.path / _NAME).open("wb")
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._by_tensor: dict[int, tuple[weakref.ref[ir.TensorProtocol], int]] = {}
        self._by_content: dict[bytes, int] = {}

    def detach(self, model: ir.Model) -> bytes:
        """The model as bytes that refer to the file; equal for equal models, weights included."""
        content = detach(model, self._place)
        self._file.flush()
        return content

    def open(
        self, content: bytes, *, threads: int | None = None, options: Mapping[str, Any] | None = None
    ) -> ort.InferenceSession:
        """A session of a model that `detach` gave."""
        session = open_detached(content, self._scratch.path, threads=threads, options=options)
        session.weights_in_use = self  # what is mapped must not be deleted before
        return session

    def _place(self, tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
        known = self._by_tensor.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return reference(tensor, name, _NAME, known[1])
        offset = self._write(tensor)
        self._by_tensor[id(tensor)] = weakref.ref(tensor), offset
        return reference(tensor, name, _NAME, offset)

    def _write(self, tensor: ir.TensorProtocol) -> int:
        """Where the content is; lowerings pack the same weights again for every variant."""
        content = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
        digest = hashlib.sha256(content).digest()
        if digest not in self._by_content:
            self._file.seek(-self._end % _PAGE, 1)
            self._by_content[digest] = self._file.tell()
            self._file.write(content)
            self._end = self._file.tell()
        return self._by_content[digest]
