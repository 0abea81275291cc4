"""From a graph and its arguments to an executable: out of the disk cache, or through the compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from optc.errors import OptcError

from .alone import alone
from .because import Unsupported, check_arguments, reason_of
from .cache import Cache, find_cache
from .counts import COUNTERS
from .executable import Executable
from .fed import fed
from .graph import Graph
from .key import Unkeyed, key_of
from .options import Options

if TYPE_CHECKING:
    from .plan import Plan


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
    """
    cache = find_cache(options.cache)
    key = _key(graph, arguments, options) if cache is not None else None
    if cache is not None and key is not None:
        if (found := _from_cache(cache, key, options)) is not None:
            COUNTERS.add("cache_hits")
            return found
        COUNTERS.add("cache_misses")
    options.check_pipeline()
    try:
        with alone():
            return _made(graph, arguments, options, cache, key)
    except Exception as error:
        raise Unsupported(reason_of(error)) from error


def _made(
    graph: Graph, arguments: Sequence[Any], options: Options, cache: Cache | None, key: str | None
) -> Built:
    from .analysis import Analysis
    from .plan import make_plan

    check_arguments(arguments)
    plan = make_plan(graph, Analysis(graph.module, arguments))
    if not plan.computed:
        return Built(plan, None, False, None, None)
    emit = _compile(graph, plan, arguments, options)
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

    found = cache.read(key)
    if found is None:
        return None
    directory, text = found
    try:
        return Built(Plan.from_json(text), _open(directory, options), False, key, cache)
    except Exception:  # whatever is wrong with it, compiling anew puts it right, or fails and says why
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


def _compile(graph: Graph, plan: Plan, arguments: Sequence[Any], options: Options) -> Any:
    """Compiles, and returns what writes the program into a directory."""
    import optc
    from optc import registry

    from .functional import Functional

    module = Functional(graph, plan, arguments)
    with torch.inference_mode(False), torch.no_grad():
        artifact = optc.compile(
            module,
            module.example(arguments),
            dynamic_shapes=module.dynamic_shapes(),
            level=options.level,
            pipeline=options.pipeline,
            max_error=options.max_error,
            gate=options.gate,
            gate_seconds=options.gate_seconds,
            seed=options.seed,
            threads=options.threads or torch.get_num_threads(),
            target_options=options.target_options,
        )
    _check_inputs(artifact.model, len(module.indices))
    return partial(_emit, registry.find_target("cpu"), artifact.model, artifact.manifest.options)


def _emit(target: Any, model: Any, options: Any, directory: Path) -> list[str]:
    return list(target.emit(model, directory, options))


def _check_inputs(model: Any, expected: int) -> None:
    if len(model.graph.inputs) != expected:
        raise OptcError(f"the captured graph has {len(model.graph.inputs)} inputs instead of {expected}")
