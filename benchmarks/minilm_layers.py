"""MiniLM-L6 with blocks removed or attention shared: speed, size, and cosine to the whole model.

    python benchmarks/minilm_layers.py --keep build/layers [--rounds 5]

Calibrated on 64 sentences, judged on 400 others. Sessions are bare, each in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sentences
import turns
from rich.console import Console

PASSES = {
    "optc -O1": "",
    "one block less": "skip-layers{count=1}, ",
    "one less, compensated": "skip-layers{count=1, compensate=true}, ",
    "two less": "skip-layers{count=2}, ",
    "two less, compensated": "skip-layers{count=2, compensate=true}, ",
    "one layer shares": "share-attention{count=1}, ",
    "two layers share": "share-attention{count=2}, ",
}


def main() -> None:
    """Builds what is not there yet, measures in turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--build-only", action="store_true")
    given = parser.parse_args()
    paths = build(given.keep)
    if given.build_only:
        return
    shapes = ((1, 16), (1, 128))
    times = turns.take(paths, [_ones(*shape) for shape in shapes], rounds=given.rounds, seconds=given.seconds)
    found = {name: sentences.embeddings(path) for name, path in paths.items()}
    more = {
        "cosine": {name: f"{sentences.cosine(found['optc -O1'], e):.3f}" for name, e in found.items()},
        "MB": {name: f"{_bytes(path) / 1e6:.1f}" for name, path in paths.items()},
    }
    Console(width=140).print(turns.table("MiniLM-L6", times, list(map(str, shapes)), more))


def build(folder: Path) -> dict[str, Path]:
    """One artifact per pipeline; those that exist are taken as they are."""
    import minilm

    import optc

    module, inputs, dims = minilm.encoder()
    folder.mkdir(parents=True, exist_ok=True)
    calibration = sentences.calibration(64)
    for name, passes in PASSES.items():
        if not (folder / name).exists():
            optc.compile(
                module,
                inputs,
                dynamic_shapes=dims,
                pipeline=f"simplify, {passes}fuse",
                calibration=calibration,
                gate=False,
                output=folder / name,
            )
    return {name: folder / name / "model.onnx" for name in PASSES}


def _ones(batch: int, seq: int) -> dict[str, np.ndarray]:
    ids = np.ones((batch, seq), np.int64)
    return {"input_ids": ids, "attention_mask": ids, "token_type_ids": np.zeros_like(ids)}


def _bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.parent.glob("model.onnx*"))


if __name__ == "__main__":
    main()
