"""ViT-B/16 with fewer tokens, in float and in int8: milliseconds at batch 1, contestants in turns.

python benchmarks/vit_tokens.py [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
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


def build(folder: Path) -> dict[str, Path]:
    """The plain export and one artifact per pipeline; random weights, calibrated on noise."""
    torch.manual_seed(0)
    model, pixels = Classifier().eval(), torch.randn(1, 3, 224, 224)
    plain = folder / "plain.onnx"
    torch.onnx.export(model, (pixels,), plain, dynamo=True, external_data=True, verbose=False)
    noise = np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(np.float32)
    files = {"plain export": plain}
    for name, pipeline in PIPELINES.items():
        output = folder / name.replace(" ", "-")
        calibration = {"pixels": noise}
        optc.compile(model, (pixels,), pipeline=pipeline, gate=False, calibration=calibration, output=output)
        files[name] = output / "model.onnx"
    return files


def median_ms(file: Path, threads: int, calls: int = 7) -> float:
    """One fresh session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options)
    feeds = {session.get_inputs()[0].name: np.zeros((1, 3, 224, 224), np.float32) + 0.1}
    session.run(None, feeds)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = build(Path(folder))
        rounds = [
            {name: median_ms(file, given.threads) for name, file in files.items()}
            for _ in range(given.rounds)
        ]
    for name in files:
        times = [each[name] for each in rounds]
        ratios = [each["plain export"] / each[name] for each in rounds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name:20} {np.median(times):7.1f} ms   {np.median(ratios):.2f}x ({spread})")


if __name__ == "__main__":
    main()
