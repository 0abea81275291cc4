"""From a graph and its arguments to an executable: out of the disk cache, or through the compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from optc.errors import OptcError, UserError
from optc.ort_errors import ORT_ERRORS, ORT_FAILURES

from .because import Unsupported, check_arguments, internal_error, is_ours, reason_of
from .cache import Cache, find_cache
from .counts import COUNTERS
from .executable import Executable
from .fed import fed
from .graph import Graph
from .key import Unkeyed, key_of
from .options import Options

if TYPE_CHECKING:
    from optc.capture import Captured

    from .plan import Plan


# A cached executable that is not what it should be, and what cannot be compiled through no fault of a pass.
_UNREADABLE: tuple[type[Exception], ...] = (TypeError, *ORT_ERRORS)
_REFUSALS: tuple[type[Exception], ...] = (UserError, *ORT_FAILURES)


@dataclass(frozen=True)
class Built:
    """An executable and what it is good for; without one there is nothing to compute.

    Attributes:
        fresh: made now, so that nobody has compared it with eager mode yet.
        key: its name in the cache.
    """

    plan: Plan
    executable: Executable | None
    fresh: bool
    key: str | None
    cache: Cache | None

    def fixed_sizes(self, graph: Graph, arguments: Sequence[Any]) -> list[tuple[int, int, int]]:
        """(argument, axis, size) where the graph says symbolic, and the executable is for one size only."""
        if self.executable is None:
            return []
        indices = fed(graph, self.plan, arguments)
        shapes = dict(zip(indices, self.executable.shapes, strict=True))
        pairs = ((i, axis) for i, axes in graph.dynamic.items() if i in shapes for axis in axes)
        return [(i, axis, shapes[i][axis]) for i, axis in pairs if isinstance(shapes[i][axis], int)]


def build(graph: Graph, arguments: Sequence[Any], options: Options) -> Built:
    """The executable for these arguments' weights.

    Raises:
        Unsupported: the graph must run in eager mode; the text says why.
        UserError: an option is wrong.
        OptcError: planning, capturing or a pass failed. That is a defect, which eager mode must not hide.
    """
    cache = find_cache(options.cache)
    key = _key(graph, arguments, options) if cache is not None else None
    if cache is not None and key is not None:
        if (found := _from_cache(cache, key, options)) is not None:
            COUNTERS.add("cache_hits")
            return found
        COUNTERS.add("cache_misses")
    options.check_pipeline()
    from optc.capture.alone import alone

    with alone():
        return _made(graph, arguments, options, cache, key)


def _made(
    graph: Graph, arguments: Sequence[Any], options: Options, cache: Cache | None, key: str | None
) -> Built:
    check_arguments(arguments)
    plan = _plan(graph, arguments)
    if not plan.computed:
        return Built(plan, None, False, None, None)
    emit = _compiled(graph, _capture(graph, plan, arguments), options)
    try:
        return _stored(plan, emit, options, cache, key)
    except ORT_ERRORS as error:
        raise Unsupported(reason_of(error)) from error


def _stored(
    plan: Plan, emit: Callable[[Path], list[str]], options: Options, cache: Cache | None, key: str | None
) -> Built:
    """Writes the program, into the cache if there is one, and opens it; raises what ONNX Runtime raises."""
    if cache is not None and key is not None:
        entry = cache.write(key, plan.to_json(), emit)
        if entry is not None and (executable := _opened(entry, options)) is not None:
            return Built(plan, executable, True, key, cache)
    with tempfile.TemporaryDirectory(prefix="optc-") as folder:  # the runtime keeps what it has mapped
        emit(Path(folder))
        return Built(plan, _open(Path(folder), options), True, None, None)


def _key(graph: Graph, arguments: Sequence[Any], options: Options) -> str | None:
    try:
        return key_of(graph, arguments, options.key())
    except Unkeyed:
        return None


def _from_cache(cache: Cache, key: str, options: Options) -> Built | None:
    from .plan import Plan

    def made(directory: Path, text: str) -> Built:
        return Built(Plan.from_json(text), _open(directory, options), False, key, cache)

    try:
        return cache.read(key, made)
    except _UNREADABLE:  # compiling anew puts it right, or fails and says why
        cache.forget(key)
        return None


def _opened(entry: Path, options: Options) -> Executable | None:
    """None if another process has removed the entry meanwhile; a model that does not load is an error."""
    try:
        return _open(entry, options)
    except Exception:
        if entry.exists():
            raise
        return None


def _open(directory: Path, options: Options) -> Executable:
    threads = options.threads or torch.get_num_threads()
    return Executable.open(directory, {**options.target_options, "threads": threads})


def _plan(graph: Graph, arguments: Sequence[Any]) -> Plan:
    from .analysis import Analysis
    from .plan import make_plan

    try:
        return make_plan(graph, Analysis(graph.module, arguments, graph.baked))
    except Exception as error:  # torch raises all kinds
        raise _refusal("planning", error, graph) from error


def _refusal(what: str, error: Exception, graph: Graph) -> Exception:
    """What to raise for an error: a defect of ours is one, and eager mode must not hide it."""
    if isinstance(error, Unsupported):
        return error
    return internal_error(what, error, graph) if is_ours(error) else Unsupported(reason_of(error))


def _capture(graph: Graph, plan: Plan, arguments: Sequence[Any]) -> Captured:
    from optc.capture import capture

    from .functional import Functional

    try:
        module = Functional(graph, plan, arguments)
        with _exportable():
            captured = capture(module, module.example(arguments), dynamic_shapes=module.dynamic_shapes())
    except Exception as error:  # exporters raise all kinds
        raise _refusal("capturing", error, graph) from error
    found, expected = len(captured.model.graph.inputs), len(module.indices)
    if found != expected:
        raise OptcError(f"the captured graph has {found} inputs instead of {expected}")
    return captured


def _compiled(graph: Graph, captured: Captured, options: Options) -> Callable[[Path], list[str]]:
    """Runs the passes, and returns what writes the program into a directory.

    Raises:
        Unsupported: the target or the runtime cannot do what the graph needs.
        OptcError: a pass failed. That is a defect, which eager mode must not hide.
    """
    import optc
    from optc import registry

    try:
        with _exportable():
            artifact = optc.compile(
                captured,
                level=options.level,
                pipeline=options.pipeline,
                max_error=options.max_error,
                gate=options.gate,
                gate_seconds=options.gate_seconds,
                seed=options.seed,
                threads=options.threads or torch.get_num_threads(),
                target_options=options.target_options,
            )
    except _REFUSALS as error:
        raise Unsupported(reason_of(error)) from error
    except Exception as error:
        raise internal_error("a pass", error, graph) from error
    return partial(_emit, registry.find_target("cpu"), artifact.model, artifact.manifest.options)


@contextmanager
def _exportable() -> Iterator[None]:
    """Outside of autograd and of inference mode, where torch.export is at home."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _emit(target: Any, model: Any, options: Any, directory: Path) -> list[str]:
    return list(target.emit(model, directory, options))
