"""Capture: from PyTorch and from ONNX to `onnx_ir.Model`."""

from __future__ import annotations

from .captured import Captured
from .front import capture
from .signature import Signature

__all__ = ["Captured", "Signature", "capture"]
