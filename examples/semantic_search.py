"""The main job on a real model: compile a sentence encoder, search with it, compare ranking and speed.

Run it with `make demo`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import minilm
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import optc
from optc.cli import run_command

HERE = Path(__file__).resolve().parent
QUERIES = [
    "How do plants make food from light?",
    "Why do prices go up?",
    "animals that live in the ocean",
    "keeping my accounts safe on the internet",
    "How does a computer run a program?",
]
Encode = Callable[[dict[str, np.ndarray]], np.ndarray]


def main() -> None:
    """Compiles, searches with both, and prints what came out."""
    console = Console(width=None if sys.stdout.isatty() else 100)
    passages = (HERE / "data" / "passages.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "minilm"
        command = ["compile", f"{HERE / 'minilm.py'}:encoder", "-o", str(directory)]
        console.print("[bold]$ optc compile examples/minilm.py:encoder -o minilm[/]")
        if code := run_command(command):
            sys.exit(code)
        artifact = optc.load(directory)
    module = minilm.encoder()[0]
    before = search(eager(module), passages)
    after = search(lambda tokens: artifact.run(tokens)["output"], passages)
    console.print(ranking(before, after, passages))
    same = all((a == b).all() for a, b in zip(before, after, strict=True))
    console.print(
        f"ranking of all {len(passages)} passages for all queries: {'the same' if same else 'DIFFERENT'}"
    )
    console.print(speed(eager(module), lambda tokens: artifact.run(tokens)["output"]))
    sys.exit(0 if same else 1)


def eager(module: torch.nn.Module) -> Encode:
    """The original model in PyTorch."""

    def encode(tokens: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return module(**{name: torch.from_numpy(value) for name, value in tokens.items()}).numpy()

    return encode


def search(encode: Encode, passages: list[str]) -> list[np.ndarray]:
    """For every query the passages' indices, best first."""
    library, questions = embed(encode, passages), embed(encode, QUERIES)
    return [np.argsort(-(library @ question), kind="stable") for question in questions]


def embed(encode: Encode, texts: list[str]) -> np.ndarray:
    """One normalised vector per text."""
    tokens = minilm.tokenize(texts)
    return minilm.pool(encode(tokens), tokens["attention_mask"])


def ranking(before: list[np.ndarray], after: list[np.ndarray], passages: list[str]) -> Table:
    """The best passage of each query, from both."""
    table = Table("query", "best passage", "original = artifact", header_style="bold")
    for query, old, new in zip(QUERIES, before, after, strict=True):
        table.add_row(query, passages[new[0]], "yes" if (old == new).all() else "no")
    return table


def speed(original: Encode, compiled: Encode, name: str = "PyTorch") -> Table:
    """Median time of one query of each, in blocks that take turns; ``name`` is that of the original."""
    table = Table("input", f"{name} ms", "optc ms", "faster", header_style="bold")
    for label, texts in (
        ("one query", QUERIES[:1]),
        ("5 queries", QUERIES),
        ("one long text", [" ".join(QUERIES * 3)]),
    ):
        tokens = minilm.tokenize(texts)
        times = np.array([[seconds_of(encode, tokens) for encode in (original, compiled)] for _ in range(7)])
        old, new = np.median(times, axis=0) * 1e3
        ratio = np.median(times[:, 0] / times[:, 1])
        table.add_row(f"{label} {tokens['input_ids'].shape}", f"{old:.2f}", f"{new:.2f}", f"{ratio:.2f}x")
    return table


def seconds_of(encode: Encode, tokens: dict[str, np.ndarray]) -> float:
    """Median of six calls after three: threads of who ran before spin on for a while, and slow the first."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        encode(tokens)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


if __name__ == "__main__":
    main()
