"""MiniLM-L6 in ONNX Runtime: the plain export, onnxscript's optimize_for_ort, and optc, side by side.

The last row is no contestant: the products with weights alone, the bound of what keeps them as they are.

    python benchmarks/minilm.py --rounds 7

Sessions are bare, with default options, each in a process of its own; contestants take turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import turns
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

SHAPES = [(1, 16), (1, 32), (1, 128), (8, 128)]


def main() -> None:
    """Builds the contestants, measures them in turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="use or leave the models in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contestants = build(arguments.keep or Path(folder))
        times = turns.take(contestants, [tokens(*shape) for shape in SHAPES], rounds=arguments.rounds)
    means = {
        name: f"{float(np.exp(np.log(np.median(times.speedups(name), axis=0)).mean())):.2f}x"
        for name in contestants
    }
    shown = turns.table(
        "MiniLM-L6, fp32, ONNX Runtime CPU", times, list(map(str, SHAPES)), {"geometric mean": means}
    )
    Console(width=100).print(shown)


def tokens(batch: int, seq: int) -> dict[str, np.ndarray]:
    """Random ids of full length, int64 [batch, seq]."""
    ids = np.random.default_rng(0).integers(1000, 30000, (batch, seq))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def build(folder: Path) -> dict[str, Path]:
    """The model of each contestant; those that exist are taken as they are."""
    import minilm
    import onnx
    import onnx_ir as ir
    import products
    import torch
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    import optc

    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "plain export": folder / "plain.onnx",
        "optimize_for_ort": folder / "onnxscript.onnx",
        "optc -O1": folder / "optc" / "model.onnx",
        "its products alone": folder / "products.onnx",
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
    if not paths["its products alone"].exists():
        optc_model = onnx.load(paths["optc -O1"], load_external_data=False)
        onnx.save(products.alone(optc_model, "input_ids"), paths["its products alone"])
    return paths


if __name__ == "__main__":
    main()
