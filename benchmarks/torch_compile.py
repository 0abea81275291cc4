"""MiniLM-L6 under torch.compile(backend="optc") against eager mode, and how long the first result takes.

    python benchmarks/torch_compile.py [--rounds 5]

Every measurement is a process of its own, contestants take turns, and ratios are taken within a turn. The
first result counts from before torch.compile; "tracing alone" is dynamo with the backend of torch that
compiles nothing. The last row of calls is no contestant: the encoder's linear layers in eager mode with
nothing between them, the bound of what keeps torch's products as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turns
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

SHAPES = ((1, 16), (1, 128), (8, 128))
PRODUCTS = "products"
_FIRST, _NEXT, _TRACED = "first process", "next process", "next, with torch's traces"
CONTESTANTS: dict[str, dict[str, object] | str | None] = {
    "eager mode": None,
    "optc": {},
    'optc, options={"level": 2}': {"level": 2},
    "its linear layers alone": PRODUCTS,
}


def main() -> None:
    """Measures in turns and prints both tables; a worker measures one contestant and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--part", choices=("calls", "first"), help="only one of the two tables")
    parser.add_argument("--cache", help="folder of executables that stays; a temporary one by default")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        kind, text = given.worker
        print(json.dumps(calls(json.loads(text), given.seconds) if kind == "calls" else first_result(text)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.part != "first":
            show_calls(given.cache or folder, given.rounds, given.seconds)
        if given.part != "calls":
            show_first(folder, given.rounds)


def show_calls(cache: str, rounds: int, seconds: float) -> None:
    """Times of a call; the first turn fills the cache."""
    taken: dict[str, list[list[float]]] = {name: [] for name in CONTESTANTS}
    for turn in range(rounds):
        order = list(CONTESTANTS)
        for name in order if turn % 2 == 0 else reversed(order):
            taken[name].append(_worker("calls", json.dumps(CONTESTANTS[name]), cache, seconds))
    times = turns.Times({name: np.array(rows) for name, rows in taken.items()}, "eager mode")
    Console(width=120).print(turns.table("MiniLM-L6, torch.compile", times, list(map(str, SHAPES)), {}))


def show_first(folder: str, rounds: int) -> None:
    """Seconds to the first result at (1, 128): nothing on disk, from the disk, and what torch alone takes.

    Last, with torch's experimental cache of traces switched on in both processes.
    """
    taken: dict[str, list[float]] = {name: [] for name in (_FIRST, _NEXT, "tracing alone", _TRACED)}
    for turn in range(rounds):
        cache = f"{folder}/first-{turn}"
        traces = {"TORCH_CACHING_PRECOMPILE": "1", "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torch"}
        for name, backend in zip(taken, ("optc", "optc", "eager"), strict=False):
            taken[name].append(_worker("first", backend, cache))
        _worker("first", "optc", f"{cache}/with-traces", **traces)
        taken[_TRACED].append(_worker("first", "optc", f"{cache}/with-traces", **traces))
    for name, values in taken.items():
        print(f"{name:31}{statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f})")
    for name in (_NEXT, _TRACED):
        ratios = [a / b for a, b in zip(taken[_FIRST], taken[name], strict=True)]
        low, high = min(ratios), max(ratios)
        print(f"first over {name:20}{statistics.median(ratios):6.2f}x    ({low:.2f} to {high:.2f})")


def _worker(kind: str, text: str, cache: str, seconds: float = 1.0, **more: str) -> Any:
    told = [sys.executable, __file__, "--worker", kind, text, "--seconds", str(seconds)]
    environment = {**os.environ, "OPTC_CACHE_DIR": cache, **more}
    done = subprocess.run(told, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def calls(options: dict[str, object] | str | None, seconds: float) -> list[float]:
    """Median seconds of a call at each shape."""
    import torch

    module, medians = _encoder(), []
    for shape in SHAPES:
        torch.compiler.reset()
        inputs = _inputs(shape)
        called = module
        if options == PRODUCTS:
            called, inputs = _linear_layers(module, inputs)
        elif options is not None:
            called = torch.compile(module, backend="optc", options=options)
        with torch.inference_mode():
            called(**inputs)
            _until(0.3 * seconds, called, inputs)
            medians.append(statistics.median(_until(seconds, called, inputs)))
    if isinstance(options, dict):
        import optc

        stats = optc.torch_backend.stats()
        assert stats.fallbacks == 0, stats.reasons
    return medians


def _linear_layers(
    module: Callable[..., object], inputs: dict[str, object]
) -> tuple[Callable[..., object], dict[str, object]]:
    """What runs every linear layer on what it gets in `module`, and no inputs: they are recorded here."""
    import torch

    recorded: list[tuple[torch.nn.Linear, torch.Tensor]] = []
    assert isinstance(module, torch.nn.Module)
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: recorded.append((layer, given[0])))
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    with torch.inference_mode():
        module(**inputs)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for layer, given in recorded:
            layer(given)

    return run, {}


def first_result(backend: str) -> float:
    """Seconds from before torch.compile to after the first call."""
    import torch

    module, inputs = _encoder(), _inputs((1, 128))
    with torch.inference_mode():
        start = time.perf_counter()
        torch.compile(module, backend=backend)(**inputs)
        taken = time.perf_counter() - start
    if torch._dynamo.config.caching_precompile:
        torch.compiler.save_cache_artifacts()
    return taken


def _until(seconds: float, called: Callable[..., object], inputs: dict[str, object]) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 10:
        start = time.perf_counter()
        called(**inputs)
        taken.append(time.perf_counter() - start)
    return taken


def _encoder() -> Callable[..., object]:
    import minilm

    return minilm.encoder()[0]


def _inputs(shape: tuple[int, int]) -> dict[str, object]:
    import torch

    ids = torch.from_numpy(np.random.default_rng(0).integers(1000, 30000, shape))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }


if __name__ == "__main__":
    main()
