"""ViT-B/16 with fewer tokens, in float and in int8: milliseconds, contestants in turns.

python benchmarks/vit_tokens.py [--rounds 3] [--batch 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import turns
from rich.console import Console
from transformers import ViTConfig, ViTModel

import optc

MERGE, INT8 = "merge-tokens{method=tome, r=16}", "quantize{scheme=int8-dynamic}"
PIPELINES = {
    "optc -O1": "simplify, fuse",
    "fewer tokens": f"simplify, {MERGE}, fuse",
    "int8": f"simplify, {INT8}, fuse",
    "fewer tokens, int8": f"simplify, {MERGE}, {INT8}, fuse",
}


class Classifier(torch.nn.Module):
    """What a classifier reads: the class token after the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = ViTModel(ViTConfig(), add_pooling_layer=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """From [batch, 3, 224, 224] to [batch, 768]."""
        return self.transformer(pixel_values=pixels).last_hidden_state[:, 0]


def build(folder: Path, batch: int) -> dict[str, Path]:
    """The plain export and one artifact per pipeline; random weights, calibrated on noise."""
    torch.manual_seed(0)
    model, pixels = Classifier().eval(), torch.randn(batch, 3, 224, 224)
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "plain.onnx"
    if not plain.exists():
        torch.onnx.export(model, (pixels,), plain, dynamo=True, external_data=True, verbose=False)
    noise = np.random.default_rng(0).standard_normal((8 * batch, 3, 224, 224)).astype(np.float32)
    files = {"plain export": plain}
    for name, pipeline in PIPELINES.items():
        output = folder / name.replace(" ", "-")
        files[name] = output / "model.onnx"
        if not files[name].exists():
            calibration = {"pixels": noise}
            optc.compile(
                model, (pixels,), pipeline=pipeline, gate=False, calibration=calibration, output=output
            )
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="use or leave the models in this folder")
    given = parser.parse_args()
    pixels = np.full((given.batch, 3, 224, 224), 0.1, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = build(given.keep or Path(folder), given.batch)
        times = turns.take(files, [{"pixels": pixels}], rounds=given.rounds, threads=given.threads)
    Console(width=100).print(turns.table("ViT-B/16", times, [f"batch {given.batch}"], {}))


if __name__ == "__main__":
    main()
