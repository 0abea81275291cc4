"""Tracing one thing at a time: torch keeps the state of its tracers in module globals.

A capture needs that too: for the while it changes functions of torch and of its exporter, and the module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._dynamo.convert_frame import compile_lock


@contextmanager
def alone() -> Iterator[None]:
    """Keeps other threads from tracing, and lets them go on calling what is compiled.

    While torch.fx traces in one thread, torch refuses calls of compiled functions in all others, unless it is
    compiling as a whole. So we say that it is.
    """
    with compile_lock:
        flag = torch.compiler._is_compiling_flag
        torch.compiler._is_compiling_flag = True
        try:
            yield
        finally:
            torch.compiler._is_compiling_flag = flag
