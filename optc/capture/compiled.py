"""An artifact as a source: its program, called as the artifact is."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from optc import manifest
from optc.errors import UserError

from .onnx_file import load_onnx
from .signature import Signature

_MODEL = "model.onnx"


def is_compiled(path: Path) -> bool:
    """Whether a directory says that it is an artifact."""
    return path.is_dir() and (path / manifest.NAME).is_file()


def load_compiled(directory: Path) -> tuple[ir.Model, Signature]:
    """The program of an artifact, and how the module behind it was called.

    Raises:
        UserError: it is damaged, a file was changed, or its program is no ONNX model.
    """
    found = manifest.read(directory)
    if _MODEL not in found.files:
        what = f"an artifact of the target {found.target!r} has no ONNX model to compile"
        raise UserError(what, where=str(directory), hint="compile the model that it was made from")
    manifest.check_files(directory, found.files)
    return load_onnx(directory / _MODEL), Signature.from_json(found.signature)
