"""Capture of ``.onnx`` files, which are untrusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from optc.errors import InvalidModel

from .external import DataFiles
from .onnx_memory import model_from_proto

_PROTOBUF_LIMIT = (1 << 31) - 1  # bytes; protobuf refuses larger messages

# Where a file starts, what it then is, and what to do: for people who pass the wrong file.
_LOOKS_LIKE: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"ORTM", "an ORT-format model", "compile the .onnx file that it was made from"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX first"),
    (0, b"\x80\x02", "a pickle", "export the model to ONNX; pickles are not read, because they execute code"),
    (0, b"\x80\x04", "a pickle", "export the model to ONNX; pickles are not read, because they execute code"),
    (0, b"PK\x03\x04", "a zip archive", "a PyTorch .pt2 needs that ending; unpack other archives"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it first"),
    (0, b"\x89PNG", "a PNG image", "pass the model"),
    (0, b"\x89HDF", "an HDF5 file", "convert it to ONNX first"),
    (0, b"GGUF", "a GGUF file", "export the model to ONNX"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the real file with `git lfs pull`"),
    (0, b"{", "JSON", "pass the binary .onnx file"),
    (0, b"<ir_version", "the text form of a model", "save it in binary form (onnx.save)"),
    (0, b"<\n   ir_version", "the text form of a model", "save it in binary form (onnx.save)"),
    (0, b"<", "XML or HTML", "pass the binary .onnx file; a download may have failed"),
    (0, b"ir_version", "the text form of a model", "save it in binary form (onnx.save)"),
)


def load_onnx(path: Path) -> ir.Model:
    """Reads a model file; external data is mapped, and must lie inside the model's folder.

    Raises:
        InvalidModel: the file is missing, is no ONNX model, or is broken; names the place.
    """
    path, where = Path(path), str(path)
    proto = _parse(_read(path, where), where)
    return model_from_proto(proto, DataFiles(path.parent, path.resolve().parent), where)


def _read(path: Path, where: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidModel(
            f"the file cannot be opened: {reason}", where=where, hint="check the path"
        ) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InvalidModel(f"the path is {kind}", where=where, hint="pass the .onnx file itself")
    with os.fdopen(handle, "rb") as file:
        if status.st_size == 0:
            raise InvalidModel("the file is empty", where=where, hint="export the model again")
        start = file.read(64)
        for offset, magic, kind, hint in _LOOKS_LIKE:
            if start[offset:].startswith(magic):
                raise InvalidModel(f"the file is {kind}, not an ONNX model", where=where, hint=hint)
        if status.st_size > _PROTOBUF_LIMIT:
            what = f"the file has {status.st_size:,} bytes, and protobuf reads at most {_PROTOBUF_LIMIT:,}"
            hint = "save the weights as external data: onnx.save(..., save_as_external_data=True)"
            raise InvalidModel(what, where=where, hint=hint)
        return start + file.read(status.st_size)


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        hint = "the file is truncated, damaged, nested too deeply, or of another kind; export the model again"
        raise InvalidModel(
            "the file is not an ONNX model (protobuf cannot read it)", where=where, hint=hint
        ) from error
    if not proto.ir_version and not proto.HasField("graph"):
        hint = "the file is of another kind; pass a model that an exporter wrote"
        raise InvalidModel("the file holds no ONNX model", where=where, hint=hint)
    return proto
