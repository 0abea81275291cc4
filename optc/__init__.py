"""optc: an optimizing compiler for neural-network inference. Right, measured, explained.

import optc
artifact = optc.compile(module, (example,))
artifact(example)
artifact.save("compiled")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optc.artifact import Artifact, load
    from optc.driver import compile
    from optc.errors import OptcError, UserError
    from optc.passbase import Context, Pass, Report, Skip
    from optc.pipeline import Pipeline
    from optc.torch_module import to_module

__all__ = [
    "Artifact",
    "Context",
    "OptcError",
    "Pass",
    "Pipeline",
    "Report",
    "Skip",
    "UserError",
    "compile",
    "load",
    "to_module",
]

# Names are imported when they are first used, so that `import optc` costs nothing.
_HOMES = {
    "Artifact": "artifact",
    "Context": "passbase",
    "OptcError": "errors",
    "Pass": "passbase",
    "Pipeline": "pipeline",
    "Report": "passbase",
    "Skip": "passbase",
    "UserError": "errors",
    "compile": "driver",
    "load": "artifact",
    "to_module": "torch_module",
}


def __getattr__(name: str) -> Any:
    if name == "torch_backend":
        return importlib.import_module("optc.torch_backend")
    if name not in _HOMES:
        raise AttributeError(f"module 'optc' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"optc.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
