"""MiniLM-L6 on sentences: what low precision or fewer layers leave of its embeddings."""

from __future__ import annotations

import sys
from pathlib import Path

import bare
import numpy as np
import prose

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

JUDGED = 400


def calibration(count: int) -> list[dict[str, np.ndarray]]:
    """One sample per sentence, unpadded; none of them is judged."""
    import minilm

    return [minilm.tokenize([text]) for text in prose.sentences()[JUDGED : JUDGED + count]]


def embeddings(path: Path) -> np.ndarray:
    """Of the judged sentences, one at a time: [sentences, 384], normalised."""
    import minilm

    run, found = bare.program(path), []
    for text in prose.sentences()[:JUDGED]:
        feeds = minilm.tokenize([text])
        (hidden,) = run(feeds)
        found.append(minilm.pool(hidden, feeds["attention_mask"])[0])
    return np.array(found)


def cosine(expected: np.ndarray, found: np.ndarray) -> float:
    """Mean over the sentences."""
    return float((expected * found).sum(axis=1).mean())


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """How many sentences have the same nearest other sentence as before."""
    return float((_nearest(expected) == _nearest(found)).mean())


def _nearest(vectors: np.ndarray) -> np.ndarray:
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.asarray(likeness.argmax(axis=1))
