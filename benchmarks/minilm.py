"""MiniLM-L6 in ONNX Runtime: the plain export, onnxscript's optimize_for_ort, and optc, side by side.

    python benchmarks/minilm.py --rounds 7

Every measurement is a fresh process with a bare ONNX Runtime session and default options, so contestants
never share a machine moment, a session or a thread pool; they take turns, and ratios are taken within a turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

SHAPES = [(1, 16), (1, 32), (1, 128), (8, 128)]
WORKER = """
import json, sys, time
import numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
generator, medians = np.random.default_rng(0), []
for batch, seq in json.loads(sys.argv[2]):
    ids = generator.integers(1000, 30000, (batch, seq))
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feeds = {i.name: known[i.name] for i in session.get_inputs()}
    end, times = time.perf_counter() + 0.3, []
    while time.perf_counter() < end:
        session.run(None, feeds)
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - start)
    medians.append(float(np.median(times)))
print(json.dumps(medians))
"""


def main() -> None:
    """Builds the contestants, measures them in turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="use or leave the models in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contestants = build(arguments.keep or Path(folder))
        results: dict[str, list[list[float]]] = {name: [] for name in contestants}
        for turn in range(arguments.rounds):
            order = list(contestants)
            for name in order if turn % 2 == 0 else reversed(order):
                results[name].append(measure(contestants[name]))
    Console(width=100).print(table(results))


def build(folder: Path) -> dict[str, Path]:
    """The model of each contestant; those that exist are taken as they are."""
    import minilm
    import onnx_ir as ir
    import torch
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    import optc

    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "plain export": folder / "plain.onnx",
        "optimize_for_ort": folder / "onnxscript.onnx",
        "optc -O1": folder / "optc" / "model.onnx",
    }
    module, inputs, dims = minilm.encoder()
    if not paths["plain export"].exists():
        torch.onnx.export(module, (), kwargs=inputs, dynamic_shapes=dims, dynamo=True, verbose=False).save(
            paths["plain export"]
        )
    if not paths["optimize_for_ort"].exists():
        optimized, _ = optimize_for_ort(ir.load(paths["plain export"]))
        ir.save(optimized, paths["optimize_for_ort"])
    if not paths["optc -O1"].exists():
        optc.compile(module, inputs, dynamic_shapes=dims).save(folder / "optc")
    return paths


def measure(path: Path) -> list[float]:
    """Median seconds per run at each shape, in a process of its own."""
    command = [sys.executable, "-c", WORKER, str(path), json.dumps(SHAPES)]
    return [float(x) for x in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)]


def table(results: dict[str, list[list[float]]]) -> Table:
    """Median milliseconds, and the median and spread of the paired speedups over the first contestant."""
    made = Table(title="MiniLM-L6, fp32, ONNX Runtime CPU: ms (speedup, smallest to largest over the rounds)")
    made.add_column("model")
    for shape in SHAPES:
        made.add_column(str(shape), justify="right")
    made.add_column("geometric mean", justify="right")
    base = np.array(next(iter(results.values())))
    for name, rows in results.items():
        times = np.array(rows)
        ratios = base / times
        cells = [
            f"{statistics.median(times[:, i]) * 1e3:.2f} ({np.median(ratios[:, i]):.2f}x, "
            f"{ratios[:, i].min():.2f} to {ratios[:, i].max():.2f})"
            for i in range(len(SHAPES))
        ]
        mean = float(np.exp(np.log(np.median(ratios, axis=0)).mean()))
        made.add_row(name, *cells, f"{mean:.2f}x")
    return made


if __name__ == "__main__":
    main()
