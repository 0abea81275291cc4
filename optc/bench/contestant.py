"""What `optc bench` is given on the command line, as what a worker process opens."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optc import manifest
from optc.errors import UserError

EAGER = "eager"

_HINT = (
    "give model.onnx, a compiled DIR, program.pt2, package.module:factory or path/file.py:factory; "
    "BACKEND:factory runs it under torch.compile, as in inductor:package.module:factory"
)


@dataclass(frozen=True)
class Contestant:
    """One of those that are measured.

    Attributes:
        name: as the user wrote it; numbered where it is given more than once.
        kind: "onnx", "artifact" or "torch".
        source: the path, or the factory.
        mode: of kind torch: "eager", or the backend of torch.compile.
    """

    name: str
    kind: str
    source: str
    mode: str = ""

    @property
    def program(self) -> str:
        """The function of `optc.bench.programs` that opens it."""
        return f"optc.bench.programs:{self.kind}_program"

    @property
    def arguments(self) -> dict[str, Any]:
        """What that function is called with, beside the inputs and the threads."""
        return {"source": self.source, **({"mode": self.mode} if self.mode else {})}

    @property
    def file_bytes(self) -> int | None:
        """What is deployed: the model with its external data, or the files that the artifact executes."""
        if self.kind == "onnx":
            return _onnx_bytes(Path(self.source))
        if self.kind == "artifact":
            folder = Path(self.source)
            return sum((folder / name).stat().st_size for name in manifest.read(folder).files)
        return None


def parse(texts: list[str]) -> list[Contestant]:
    """The contestants that the command line names, the reference first.

    Raises:
        UserError: one is no model, artifact or factory, or there is no such backend.
    """
    return [_parse(text, _numbered(text, texts[:place])) for place, text in enumerate(texts)]


def _numbered(text: str, before: list[str]) -> str:
    return f"{text} ({before.count(text) + 1})" if text in before else text


def _parse(text: str, name: str) -> Contestant:
    path = Path(text)
    if path.is_dir():
        manifest.read(path)  # says what is wrong with a folder that is no artifact
        return Contestant(name, "artifact", text)
    if path.suffix == ".onnx" and (":" not in path.name or path.is_file()):
        return Contestant(name, "onnx", _existing(text))
    mode, _, rest = text.partition(":")
    if rest and (":" in rest or rest.endswith(".pt2")):
        return Contestant(name, "torch", _factory(rest, text), _backend(mode, text))
    return Contestant(name, "torch", _factory(text, text), EAGER)


def _factory(source: str, text: str) -> str:
    if source.endswith(".pt2"):
        return _existing(source)
    if ":" not in source:
        what = "no contestant has this ending" if Path(source).exists() else "there is no such file"
        raise UserError(what, where=text, hint=_HINT)
    return source


def _existing(source: str) -> str:
    if not Path(source).is_file():
        raise UserError("there is no such file", where=source, hint=_HINT)
    return source


def _backend(mode: str, text: str) -> str:
    from torch._dynamo import list_backends

    known = [EAGER, *list_backends()]
    if mode not in known:
        close = difflib.get_close_matches(mode, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(
            f"torch.compile has no backend {mode!r}", where=text, hint=f"{hint}known: {', '.join(known)}"
        )
    return mode


def _onnx_bytes(path: Path) -> int:
    import onnx

    proto = onnx.load(path, load_external_data=False)
    names: set[str] = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    beside: list[Path] = [path.parent / name for name in names if manifest.is_plain(name)]
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())
