"""Silence for the exporter, and only while it runs."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

# Levels and streams are the process's: whoever leaves puts back what was there when it came.
_ONE_AT_A_TIME = threading.RLock()
_LOGGERS = ("torch", "onnxscript", "onnx_ir")  # the parents: their children inherit the level


@contextmanager
def quiet() -> Iterator[None]:
    """Mutes warnings, and the loggers of torch and onnxscript; errors are raised, so none is lost.

    On a failure, torch also prints the half-made graph to stderr: what is written there is held back, and
    shown on success only.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        levels = [logger.level for logger in loggers]
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            with redirect_stderr(io.StringIO()) as held:
                yield
            sys.stderr.write(held.getvalue())
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
