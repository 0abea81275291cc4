"""The session options that programs run with, and why.

Measured on MiniLM-L6 with 2 threads, ms, medians over fresh processes at three (batch, seq):

                     load    (1, 16)   (1, 128)   (8, 128)
    as below           62       3.26      19.1      143
    without spinning   55       4.12      20.9      139      wake-ups cost small calls a fifth
    without the arena  67       3.52      19.3      145
    without patterns   64       3.24      18.3      136      no difference: they serve fixed shapes only

The runtime's own optimizations stay on: they bring what is left of the plain graph into its kernels' layouts
(blocked convolutions, activations into products), and what optc lowered is out of their way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from optc.cores import physical_cores
from optc.errors import UserError

DEFAULTS: Mapping[str, Any] = {
    "execution_mode": "sequential",
    "graph_optimization_level": "all",
    "enable_cpu_mem_arena": True,
    "enable_mem_pattern": True,
    "session.intra_op.allow_spinning": "1",
}


def session_options(options: Mapping[str, Any]) -> ort.SessionOptions:
    """SessionOptions from plain data: attributes of it, or configuration keys (with a dot).

    ``threads`` is the size of the one thread pool; without it there is one thread per physical core, because
    the kernels are bound by arithmetic units, and siblings share them.

    Raises:
        UserError: there is no such option, or the value is not one of it.
    """
    result = ort.SessionOptions()
    _set(result, "intra_op_num_threads", options.get("threads") or physical_cores(), "threads")
    result.inter_op_num_threads = 1  # a sequential session has no use for a second pool
    result.log_severity_level = 4  # failures come as exceptions; they need not be printed as well
    for key, value in options.items():
        if "." in key:
            result.add_session_config_entry(key, str(value))
        elif key != "threads":
            if key not in DEFAULTS:
                from optc.registry import did_you_mean  # it imports the IR, which running needs nothing of

                raise UserError(f"the cpu target has no option {key!r}", hint=did_you_mean(key, DEFAULTS))
            _set(result, key, _ENUMS.get((key, value), value), key)
    return result


def _set(result: ort.SessionOptions, attribute: str, value: Any, option: str) -> None:
    try:
        setattr(result, attribute, value)
    except TypeError:
        raise UserError(f"{value!r} is no value of the option {option!r} of the cpu target") from None


_LEVELS = ort.GraphOptimizationLevel
_ENUMS: dict[tuple[str, Any], Any] = {
    ("execution_mode", "sequential"): ort.ExecutionMode.ORT_SEQUENTIAL,
    ("execution_mode", "parallel"): ort.ExecutionMode.ORT_PARALLEL,
    ("graph_optimization_level", "none"): _LEVELS.ORT_DISABLE_ALL,
    ("graph_optimization_level", "basic"): _LEVELS.ORT_ENABLE_BASIC,
    ("graph_optimization_level", "extended"): _LEVELS.ORT_ENABLE_EXTENDED,
    ("graph_optimization_level", "all"): _LEVELS.ORT_ENABLE_ALL,
}
