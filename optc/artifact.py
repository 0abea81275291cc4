"""A compiled model: calling it, saving it as a directory, loading it back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from optc import atomic, checks, html, jsontext, manifest, registry, values
from optc.capture.signature import Signature
from optc.errors import UserError
from optc.manifest import Manifest
from optc.target import Target

if TYPE_CHECKING:
    from optc.capture import Captured

Program = Callable[[Mapping[str, Any]], dict[str, Any]]


class Artifact:
    """A program with its calling convention, manifest and report.

    It may be called from several threads at once. Attributes: ``manifest``, ``report``, ``signature``.
    """

    def __init__(
        self, manifest: Manifest, report: dict[str, Any], target: Target, model: ir.Model | None = None
    ) -> None:
        self.manifest, self.report = manifest, report
        self.signature = Signature.from_json(manifest.signature)
        self._target, self._model = target, model
        self._directory: Path | None = None
        self._program: Program | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(self.signature.input_names), ", ".join(self.signature.output_names)
        return f"<Artifact ({inputs}) -> ({outputs}) for {self.manifest.target}: {self.manifest.pipeline}>"

    @classmethod
    def make(
        cls,
        model: ir.Model,
        *,
        captured: Captured,
        target: Target,
        pipeline: str,
        decisions: Mapping[str, str],
        report: dict[str, Any],
        options: Mapping[str, Any],
    ) -> Artifact:
        """The artifact of a legalized model; its files are written when it is saved or first run."""
        made = Manifest(
            source_hash=captured.source_hash,
            target=target.name,
            pipeline=pipeline,
            decisions=dict(decisions),
            options={**target.session, **options},
            signature=captured.signature.to_json(),
            files={},
            versions=manifest.tool_versions(),
            machine=dict(target.tuned_for(model)),
        )
        return cls(made, report, target, model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it as the captured module is called, and returns the module's own structure.

        Torch tensors in, torch tensors out; otherwise numpy arrays.

        Raises:
            UserError: the arguments do not fit the signature or the inputs.
        """
        feeds = self.signature.flatten(args, kwargs)
        results = self._loaded()({name: values.to_numpy(value) for name, value in feeds.items()})
        if any(values.is_torch(value) for value in feeds.values()):
            results = {name: values.to_torch(value) for name, value in results.items()}
        return self.signature.unflatten(results)

    def open(self, source: str) -> None:
        """Loads the program now, and not at the first call.

        Raises:
            UserError: the target cannot load it; ``source`` is named as the place.
        """
        try:
            self._loaded()
        except UserError as error:
            hint = "correct the model there: it has types and shapes that fit, and cannot be executed"
            raise UserError(error.what, where=source, hint=hint) from error

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs once, by the names of graph inputs and outputs.

        Args:
            feeds: name -> ndarray, list of ndarrays (sequence) or None (absent optional).

        Raises:
            UserError: a name, type, rank or fixed dimension does not fit.
        """
        if not isinstance(feeds, Mapping):
            hint = f"known: {', '.join(self.signature.input_names)}; to pass them in order, call the artifact"
            raise UserError(f"run takes arrays by input name, not a {type(feeds).__name__}", hint=hint)
        return self._loaded()({name: values.to_numpy(value) for name, value in feeds.items()})

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the artifact; one that is there is replaced as a whole, files that are not ours stay.

        Folders around it that are missing are made, and go again when the writing fails.

        Raises:
            UserError: see `check_destination`.
        """
        path = Path(directory)
        self.check_destination(path)
        try:
            with atomic.folders(path.resolve().parent), atomic.staged(path, manifest.own_files) as staging:
                written = self._write(staging)
                _check_conflicts(path, staging)
        except OSError as error:
            hint = (
                "the folder around it must be writable, with enough room: an artifact is replaced as a whole"
            )
            raise UserError(f"cannot write the artifact: {error}", where=str(path), hint=hint) from error
        self.manifest = written

    @property
    def model(self) -> ir.Model:
        """The program's graph; UserError for a target whose program is not one."""
        if self._model is not None:
            return self._model
        path = self._files() / "model.onnx"
        if not path.is_file():
            raise UserError(
                f"a program of the target {self._target.name!r} has no graph", where=str(path.parent)
            )
        self._model = ir.load(path)
        return self._model

    @staticmethod
    def check_destination(directory: Path) -> None:
        """Whether an artifact may be written there.

        Raises:
            UserError: it or what should be a folder around it is a file, not writable, or it holds files but
                no manifest of ours.
        """
        try:
            path = directory.resolve()
            path.exists()
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
            reason = getattr(error, "strerror", None) or "its links go round in a circle"
            raise UserError(
                f"the output cannot be there: {reason}", where=str(directory), hint=_OTHER
            ) from None
        if path.exists() and not path.is_dir():
            raise UserError("the output is a file, not a directory", where=str(directory), hint=_OTHER)
        around = next((folder for folder in path.parents if folder.exists()), path)
        if not around.is_dir():
            raise UserError("the output would lie inside a file", where=str(around), hint=_OTHER)
        for folder in (around, path):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise UserError("no permission to write", where=str(folder), hint=_OTHER)
        if path.exists() and any(path.iterdir()) and not manifest.is_ours(path):
            what = "the output directory is not empty, and not an artifact of optc"
            raise UserError(what, where=str(directory), hint=_OTHER)

    def _write(self, directory: Path) -> Manifest:
        if self._model is not None:
            names = self._target.emit(self._model, directory, self.manifest.options)
        else:
            names = sorted(self.manifest.files)
            for name in names:
                shutil.copyfile(self._files() / name, directory / name)
            manifest.check_files(directory, self.manifest.files)  # the source may have been compiled anew
        written = replace(self.manifest, files=manifest.hashes(directory, names))
        written.write(directory)
        text = jsontext.dumps(self.report, indent=1) + "\n"
        (directory / manifest.REPORT).write_text(text, encoding="utf-8")
        (directory / manifest.PAGE).write_text(html.page(json.loads(text)), encoding="utf-8")
        return written

    def _loaded(self) -> Program:
        if self._program is None:
            with self._lock:
                if self._program is None:
                    self._program = self._target.load(self._files(), self.manifest.options)
        return self._program

    def _files(self) -> Path:
        """Where the program lies; an artifact that was not loaded from a directory gets a temporary one."""
        if self._directory is None:
            assert self._model is not None
            folder = tempfile.mkdtemp(prefix="optc-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._directory = Path(folder)
            self._target.emit(self._model, self._directory, self.manifest.options)
        return self._directory


_OTHER = "choose another directory with -o"


def load(directory: str | os.PathLike[str], *, threads: int | None = None) -> Artifact:
    """Loads an artifact that `Artifact.save` or `optc compile` wrote.

    The hashes of the program's files are checked while the target loads them. A program that was tuned for
    another machine gives a warning that says what that means.

    Args:
        threads: instead of the number in the manifest.

    Raises:
        UserError: it is no artifact, a file was changed, or the target cannot load it here.
    """
    path = Path(directory)
    found = manifest.read(path)
    if threads is not None:
        checks.numbers(seed=0, threads=threads)
        found = replace(found, options={**found.options, "threads": threads})
    target = registry.find_target(found.target)
    if reason := target.check_machine():
        raise UserError(f"the artifact is for the target {target.name!r}: {reason}", where=str(path))
    for told in target.unlike(found.machine):
        warnings.warn(f"{path}: {told}; compile it again here to have it tuned", stacklevel=2)
    try:
        artifact = Artifact(found, _report(path), target)
    except ValueError as error:
        where, hint = str(path / manifest.NAME), "compile the model again"
        raise UserError("the manifest is damaged at 'signature'", where=where, hint=hint) from error
    artifact._directory = path.resolve()
    manifest.check_regular(artifact._directory, found.files)
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(partial(manifest.check_files, artifact._directory, found.files))
        try:
            artifact._loaded()
        finally:
            check.result()  # a changed file explains a failure to load better than the runtime does
    return artifact


def _report(directory: Path) -> dict[str, Any]:
    """The report; an artifact runs without it."""
    path = directory / manifest.REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"the report cannot be read: {error}", where=str(path), hint="remove it") from error
    return report if isinstance(report, dict) else {}


def _check_conflicts(directory: Path, staging: Path) -> None:
    """Refuses to write over files in ``directory`` that are not ours."""
    if not directory.is_dir():
        return
    own = manifest.own_files(directory)
    for name in sorted(entry.name for entry in staging.iterdir()):
        if (directory / name).exists() and name not in own:
            what = "the artifact needs a file name that is taken by a file that is not ours"
            raise UserError(what, where=str(directory / name), hint="move that file away")
