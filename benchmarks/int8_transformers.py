"""Dynamic int8, optc beside onnxruntime's quantize_dynamic and NNCF: MiniLM-L6, BERT-base and ViT-B/16.

    python benchmarks/int8_transformers.py --keep build/int8-transformers [--only minilm] [--rounds 5]

MiniLM has its trained weights and is judged on sentences; the other two have random weights and are judged
by the relative error of their output. Sessions are bare, each in a process of its own, in turns. NNCF is
left out where it is not installed (benchmarks/requirements.txt).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bare
import numpy as np
import sentences
import turns
from rich.console import Console

PIPELINES = {
    "optc int8": "simplify, quantize{scheme=int8-dynamic}, fuse",
    "optc int8, not smoothed": "simplify, quantize{scheme=int8-dynamic, smooth=none}, fuse",
}
# What stays in floats: see `bare.py`.
NNCF = {"OpenVINO + NNCF": "nncf.xml", "OpenVINO + NNCF, bf16": "nncf.bf16.xml"}


@dataclass(frozen=True)
class Model:
    """A module with its inputs by name, its dynamic dimensions, what it is calibrated on and timed with."""

    module: Any
    inputs: dict[str, Any]
    dims: dict[str, Any] | None
    calibration: list[dict[str, np.ndarray]]
    cases: Mapping[str, dict[str, np.ndarray]]


def minilm() -> Model:
    """The trained sentence encoder with dynamic shapes, calibrated on 32 sentences."""
    import minilm as example

    module, inputs, dims = example.encoder()
    cases = {
        f"{seq} tokens": _tokens(seq, ("input_ids", "attention_mask", "token_type_ids")) for seq in (32, 128)
    }
    return Model(module, inputs, dims, sentences.calibration(32), cases)


def bert() -> Model:
    """BERT-base with random weights and dynamic shapes, calibrated on random tokens."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    names = ("input_ids", "attention_mask")
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", max=512)
    inputs = {name: torch.from_numpy(np.concatenate([a, a])) for name, a in _tokens(128, names).items()}
    return Model(
        BertModel(BertConfig(), add_pooling_layer=False).eval(),
        inputs,
        {name: {0: batch, 1: seq} for name in names},
        [_tokens(128, names, seed) for seed in range(1, 9)],
        {f"{seq} tokens": _tokens(seq, names) for seq in (32, 128)},
    )


def vit() -> Model:
    """ViT-B/16 with random weights and fixed shapes, calibrated on noise."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    images = np.random.default_rng(0).standard_normal((9, 1, 3, 224, 224)).astype(np.float32)
    module = ViTModel(ViTConfig(), add_pooling_layer=False).eval()
    samples = [{"pixel_values": image} for image in images]
    return Model(
        module, {"pixel_values": torch.from_numpy(images[0])}, None, samples[1:], {"an image": samples[0]}
    )


MODELS: dict[str, Callable[[], Model]] = {"minilm": minilm, "bert": bert, "vit": vit}


def main() -> None:
    """Builds what is not there yet, measures in turns, prints one table per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the models")
    parser.add_argument("--only", choices=tuple(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--build-only", action="store_true")
    given = parser.parse_args()
    for name in [given.only] if given.only else MODELS:
        model = MODELS[name]()
        paths = build(model, given.keep / name)
        if given.build_only:
            continue
        times = turns.take(paths, list(model.cases.values()), rounds=given.rounds, seconds=given.seconds)
        judged = on_sentences(paths) if name == "minilm" else on_cases(paths, model)
        Console(width=140).print(turns.table(name, times, list(model.cases), judged))


def build(model: Model, folder: Path) -> dict[str, Path]:
    """quantize_dynamic first: the others are compared with it. Models that exist are taken as they are."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    import optc

    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "plain.onnx"
    if not plain.exists():
        torch.onnx.export(
            model.module, (), kwargs=model.inputs, dynamic_shapes=model.dims, dynamo=True, verbose=False
        ).save(plain)
    paths = {}
    for name, channels in (("quantize_dynamic", False), ("quantize_dynamic per channel", True)):
        paths[name] = folder / f"{name}.onnx"
        if not paths[name].exists():
            bare = onnx.load(plain)
            del bare.graph.value_info[:]  # the quantizer refuses what it finds there in exports of today
            quantize_dynamic(bare, paths[name], weight_type=QuantType.QInt8, per_channel=channels)
    for name, pipeline in PIPELINES.items():
        paths[name] = folder / name / "model.onnx"
        if not paths[name].exists():
            optc.compile(
                model.module,
                model.inputs,
                dynamic_shapes=model.dims,
                pipeline=pipeline,
                calibration=model.calibration,
                gate=False,
                output=folder / name,
            )
    if importlib.util.find_spec("nncf") and importlib.util.find_spec("openvino"):
        paths |= {name: folder / file for name, file in NNCF.items()}
        if not all(paths[name].exists() for name in NNCF):
            nncf(plain, model.calibration, [paths[name] for name in NNCF])
    return {**paths, "float": plain}


def nncf(plain: Path, calibration: list[dict[str, np.ndarray]], to: list[Path]) -> None:
    """NNCF's int8 for transformers: weights and activations, smoothed, with corrected biases."""
    import nncf as compressor
    import openvino

    model = openvino.Core().read_model(plain)
    names = [i.any_name for i in model.inputs]
    samples = [{name: sample[name] for name in names} for sample in calibration]
    made = compressor.quantize(
        model,
        compressor.Dataset(samples),
        model_type=compressor.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    for path in to:
        openvino.save_model(made, path, compress_to_fp16=False)


def on_sentences(paths: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Mean cosine to the float embeddings, and how often the nearest sentence stays the same."""
    expected = sentences.embeddings(paths["float"])
    found = {name: sentences.embeddings(path) for name, path in paths.items()}
    return {
        "cosine": {name: f"{sentences.cosine(expected, e):.4f}" for name, e in found.items()},
        "top-1": {name: f"{100 * sentences.agreement(expected, e):.1f}%" for name, e in found.items()},
    }


def on_cases(paths: Mapping[str, Path], model: Model) -> dict[str, dict[str, str]]:
    """Relative L2 error of the first output."""
    outputs = {name: _outputs(path, model) for name, path in paths.items()}
    size = np.linalg.norm(outputs["float"])
    return {
        "error": {name: f"{np.linalg.norm(o - outputs['float']) / size:.4f}" for name, o in outputs.items()}
    }


def _outputs(path: Path, model: Model) -> np.ndarray:
    run = bare.program(path)
    return np.concatenate([run(case)[0].ravel() for case in model.cases.values()])


def _tokens(seq: int, names: tuple[str, ...], seed: int = 0) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(1000, 30000, (1, seq))
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: known[name] for name in names}


if __name__ == "__main__":
    main()
