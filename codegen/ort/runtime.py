"""Runs an emitted program in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from optc.codegen.ort.emit import MODEL
from optc.codegen.ort.interface import Input, Interface
from optc.codegen.ort.options import DEFAULTS, session_options
from optc.errors import UserError
from optc.ortvalues import has_numpy_type
from optc.session import ORT_ERRORS, run_session


class Program:
    """A loaded program; safe to call from several threads at once.

    Arrays that are C-contiguous go in by reference, and the results are the runtime's own buffers: nothing
    is copied on the way. (IO binding was measured slower here: its Python wrappers cost 30 us a call, and
    there is no copy left that it could save.)
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._interface = Interface([Input.of(arg) for arg in session.get_inputs()])
        self.outputs: Sequence[str] = [arg.name for arg in session.get_outputs()]
        args = (*session.get_inputs(), *session.get_outputs())
        self._plain = all(has_numpy_type(arg.type) for arg in args)

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs once.

        Args:
            feeds: input name -> ndarray, list of ndarrays (sequence), or None (absent optional).

        Raises:
            UserError: names, types, ranks or fixed dimensions of the feeds do not fit.
        """
        fits = self._plain and self._interface.looks_fit(feeds)
        arrays = dict(feeds) if fits else self._interface.check(feeds)
        try:
            if not self._plain:
                return run_session(self._session, arrays)
            results = self._session.run(self.outputs, arrays)
        except ORT_ERRORS as error:
            arrays = self._interface.check(feeds)  # the better message, where the feeds are to blame
            shapes = ", ".join(f"{n} {np.shape(a)}" for n, a in arrays.items() if isinstance(a, np.ndarray))
            raise UserError(
                f"the program failed on these inputs: {error}",
                where=shapes,
                hint="check the shapes and values",
            ) from error
        return dict(zip(self.outputs, results, strict=True))


def load(directory: Path, options: Mapping[str, Any]) -> Program:
    """Opens the program in ``directory``; ``options`` as in :mod:`optc.codegen.ort.options`.

    Raises:
        UserError: ONNX Runtime does not load the file.
    """
    path = directory / MODEL
    try:
        session = ort.InferenceSession(
            str(path), session_options({**DEFAULTS, **options}), providers=["CPUExecutionProvider"]
        )
    except ORT_ERRORS as error:
        told = str(error).replace(f"Load model from {path} failed:", "").strip()  # the path is said below
        hint = "compile it again with the installed versions"
        raise UserError(
            f"ONNX Runtime cannot load the program: {told}", where=str(path), hint=hint
        ) from error
    return Program(session)
