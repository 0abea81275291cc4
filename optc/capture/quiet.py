"""Silence for the exporter, and only while it runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("torch", "onnxscript", "onnx_ir")  # the parents: their children inherit the level


@contextmanager
def quiet() -> Iterator[None]:
    """Mutes warnings and the loggers of torch and onnxscript; errors are raised, so none is lost."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
