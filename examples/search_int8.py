"""Semantic search in int8: does it find the same paragraphs, and how much faster?

    python examples/search_int8.py

The collection is Python's language reference, which ships with Python. One question is asked about every
topic of it, calibration sees other paragraphs, and both float and int8 answer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from pydoc_data import topics

import minilm
import numpy as np
from rich.console import Console
from rich.table import Table
from semantic_search import speed

import optc

CALIBRATION = 32
QUESTION = "What does Python's reference say about {}?"


def main() -> None:
    """Compiles in float and at -O2, searches with both, prints what came out; fails below 95% agreement."""
    console = Console(width=None if sys.stdout.isatty() else 100)
    texts = paragraphs()
    calibration = [minilm.tokenize([text]) for text in texts[:CALIBRATION]]
    collection, questions = texts[CALIBRATION:], [QUESTION.format(name) for name in sorted(topics.topics)]
    module, inputs, dims = minilm.encoder()
    with tempfile.TemporaryDirectory() as folder:
        files = {level: Path(folder) / f"O{level}" for level in (1, 2)}
        for level, file in files.items():
            optc.compile(
                module, inputs, dynamic_shapes=dims, level=level, calibration=calibration, output=file
            )
        exact, small = (optc.load(file) for file in files.values())
        sizes = [sum(part.stat().st_size for part in file.glob("model.onnx*")) for file in files.values()]
    before, after = embed(exact, collection), embed(small, collection)
    asked, asked_small = embed(exact, questions), embed(small, questions)
    old, new = best(before, asked), best(after, asked_small)
    agreement = float((old[:, 0] == new[:, 0]).mean())
    overlap = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(old, new, strict=True)]))
    table = Table(title=f"{len(questions)} questions to {len(collection)} paragraphs", show_header=False)
    table.add_row("mean cosine, int8 to float", f"{float((before * after).sum(axis=1).mean()):.4f}")
    table.add_row("same best paragraph", f"{100 * agreement:.1f}%")
    table.add_row("of the five best, the same", f"{100 * overlap:.1f}%")
    table.add_row("file", f"{sizes[0] / 1e6:.0f} to {sizes[1] / 1e6:.0f} MB")
    console.print(table)
    console.print(speed(lambda tokens: run(exact, tokens), lambda tokens: run(small, tokens), "float"))
    sys.exit(0 if agreement >= 0.95 else 1)


def paragraphs() -> list[str]:
    """Those of the language reference that are prose, in a fixed random order."""
    found = {" ".join(p.split()) for text in topics.topics.values() for p in text.split("\n\n")}
    prose = sorted(text for text in found if 80 <= len(text) <= 600 and text[0].isupper())
    return [prose[i] for i in np.random.default_rng(0).permutation(len(prose))]


def run(artifact: optc.Artifact, tokens: dict[str, np.ndarray]) -> np.ndarray:
    """Token vectors, float32 [batch, seq, 384]."""
    return artifact.run(tokens)["output"]


def embed(artifact: optc.Artifact, texts: list[str]) -> np.ndarray:
    """One normalised vector per text, float32 [texts, 384], each text by itself."""
    tokens = [minilm.tokenize([text]) for text in texts]
    return np.concatenate([minilm.pool(run(artifact, each), each["attention_mask"]) for each in tokens])


def best(collection: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """Indices of the five nearest, int64 [questions, 5]."""
    return np.argsort(-(questions @ collection.T), axis=1, kind="stable")[:, :5]


if __name__ == "__main__":
    main()
