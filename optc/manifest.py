"""The manifest of an artifact: what it is, how it was made, and the hashes of what is executed."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from optc.errors import UserError

NAME, REPORT, PAGE = "manifest.json", "report.json", "report.html"
FORMAT = 1
_GENERATOR = "optc"
_TOOLS = ("optc", "onnxruntime", "onnx", "onnx-ir", "onnxscript", "numpy", "torch")
_HINT = "compile the model again"


@dataclass(frozen=True)
class Manifest:
    """Everything about an artifact that does not change from run to run.

    Attributes:
        source_hash: sha256 of the captured model.
        decisions: what the gate decided: family -> lowering, or "inline".
        options: what the target loads the program with.
        signature: how it is called, as `Signature.to_json` gives it.
        files: executed file -> sha256.
        machine: what of the machine that made it the program depends on; empty when that is not known.
    """

    source_hash: str
    target: str
    pipeline: str
    decisions: Mapping[str, str]
    options: Mapping[str, Any]
    signature: Any
    files: Mapping[str, str]
    versions: Mapping[str, str]
    machine: Mapping[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Writes ``manifest.json``; the same manifest gives the same bytes."""
        data = {"generator": _GENERATOR, "format": FORMAT, **asdict(self)}
        (directory / NAME).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(directory: Path) -> Manifest:
    """The manifest in ``directory``.

    Raises:
        UserError: there is none, or it is not ours, damaged, or of a newer format.
    """
    path = directory / NAME
    if not directory.is_dir():
        what = "there is no such directory" if not directory.exists() else "it is not a directory"
        raise UserError(
            f"not an artifact: {what}", where=str(directory), hint="give the -o DIR of `optc compile`"
        )
    try:
        _check_regular(path)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"not an artifact: it has no {NAME}",
            where=str(directory),
            hint="give the -o DIR of `optc compile`",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the manifest cannot be read: {error}", where=str(path), hint=_HINT) from error
    return _parsed(data, path)


def _parsed(data: Any, path: Path) -> Manifest:
    if not isinstance(data, dict) or data.get("generator") != _GENERATOR:
        raise UserError(
            "the manifest is not one of optc", where=str(path), hint="give the -o DIR of `optc compile`"
        )
    if data.get("format") != FORMAT:
        what = f"the artifact has format {data.get('format')!r}, and this optc reads format {FORMAT}"
        raise UserError(what, where=str(path), hint=f"{_HINT}, or install the optc that made it")
    named: dict[str, Any] = {each.name: data.get(each.name) for each in fields(Manifest)}
    named["machine"] = data.get("machine", {})
    texts = ("source_hash", "target", "pipeline")
    tables = ("decisions", "options", "files", "versions", "machine")
    wrong = [name for name in texts if not isinstance(named[name], str)]
    wrong += [name for name in tables if not isinstance(named[name], dict)]
    wrong += [] if _are_hashes(named["files"]) else ["files"]
    if wrong:
        raise UserError(f"the manifest is damaged at {wrong[0]!r}", where=str(path), hint=_HINT)
    return Manifest(**named)


def _are_hashes(files: Any) -> bool:
    """Whether these are names of files right in the directory, with hashes."""
    pairs = files.items() if isinstance(files, dict) else ()
    return bool(pairs) and all(is_plain(name) and isinstance(digest, str) for name, digest in pairs)


def is_plain(name: str) -> bool:
    """Whether ``name`` can only be a file right inside a directory."""
    return bool(name) and name not in (".", "..") and not {"/", "\\", "\0"} & set(name)


def is_ours(directory: Path) -> bool:
    """Whether the directory holds a manifest that optc wrote, of any format."""
    try:
        path = directory / NAME
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("generator") == _GENERATOR


def own_files(directory: Path) -> frozenset[str]:
    """Names of the files in ``directory`` that a compile put there, by its manifest; empty without one."""
    if not is_ours(directory):
        return frozenset()
    data = json.loads((directory / NAME).read_text(encoding="utf-8"))
    files = data.get("files")
    return frozenset({NAME, REPORT, PAGE, *(files if isinstance(files, dict) else ())})


def hashes(directory: Path, names: Sequence[str]) -> dict[str, str]:
    """sha256 of files in a directory."""
    return {name: file_hash(directory / name) for name in sorted(names)}


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_regular(path: Path) -> None:
    """Opening a pipe would wait for ever."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is not a regular file")


def check_regular(directory: Path, names: Iterable[str]) -> None:
    """Raises UserError where a file is a pipe or the like, before anything opens it."""
    for name in sorted(names):
        try:
            _check_regular(directory / name)
        except OSError as error:
            what = f"a file of the artifact cannot be read: {error.strerror}"
            raise UserError(what, where=str(directory / name), hint=_HINT) from error


def check_files(directory: Path, files: Mapping[str, str]) -> None:
    """Compares the files with their hashes.

    Raises:
        UserError: names the file that is missing or differs.
    """
    for name, expected in sorted(files.items()):
        path = directory / name
        try:
            found = file_hash(path)
        except OSError as error:
            what = f"a file of the artifact cannot be read: {error.strerror}"
            raise UserError(what, where=str(path), hint=_HINT) from error
        if found != expected:
            what = "a file of the artifact is not the one that was compiled (its sha256 differs)"
            raise UserError(what, where=str(path), hint=_HINT)


def tool_versions() -> dict[str, str]:
    """Versions of the packages that have a say in the result."""
    found: dict[str, str] = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout, or an optional one
            continue
    return found
