"""ResNet-50 and MobileNetV2 in static int8: optc beside every sensible setting of quantize_static.

    python benchmarks/int8_cnn.py build --keep build/int8      # minutes: models, calibration, errors
    python benchmarks/int8_cnn.py time --keep build/int8       # --rounds 5 --only resnet50

The weights are random, with batch norm statistics taken from data. Errors are relative to the float model,
over images that calibration has not seen. Every timing is a fresh process with a bare ONNX Runtime session
and default options; contestants take turns, and ratios are taken within a turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import turns
from rich.console import Console
from rich.table import Table

INPUT, CALIBRATION, TEST = "pixel_values", 16, 16
PIPELINE = "simplify, quantize{scheme=int8-static, calibrate=%s}, fuse"
FORMATS, TYPES = ("QDQ", "QOperator"), ("U8S8", "U8U8", "S8S8")
RANGES = ("MinMax", "Entropy", "Percentile")


def main() -> None:
    """Builds the contestants, or measures them in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=("build", "time"))
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="of one measurement")
    parser.add_argument("--only", choices=tuple(NETWORKS), help="one network")
    parser.add_argument("--match", default="", help="measure only settings whose name has this")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else NETWORKS:
        folder = arguments.keep / name
        if arguments.step == "build":
            build(name, folder)
        else:
            Console(width=100).print(measure(folder, arguments.rounds, arguments.seconds, arguments.match))


def images(count: int, seed: int) -> np.ndarray:
    """Smooth noise with grain, [count, 3, 224, 224]."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 14, 14, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
    return (smooth + 0.3 * torch.randn(count, 3, 224, 224, generator=generator)).numpy()


def _resnet50() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


def _mobilenetv2() -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000))


NETWORKS = {"resnet50": _resnet50, "mobilenetv2": _mobilenetv2}


def network(name: str) -> Any:
    """The network with random weights at which signals neither vanish nor explode."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    module, norms = NETWORKS[name](), []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.0, 0.3)
            part.momentum = None
            part.reset_running_stats()
            norms.append(part)
        elif isinstance(part, nn.Dropout):
            part.p = 0.0
    module.train()
    with torch.no_grad():
        for seed in range(3):
            module(pixel_values=torch.from_numpy(images(8, 100 + seed)))
        for norm in norms:  # statistics of training data fit the inputs only so well
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.4))
    return module.eval()


def build(name: str, folder: Path) -> None:
    """Every contestant's model, and their errors as JSON; models that exist are taken as they are."""
    import torch

    import optc

    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "float.onnx"
    samples = [images(1, 500 + i) for i in range(CALIBRATION)]
    np.save(folder / "x.npy", samples[0])
    if not plain.exists():
        module = network(name)
        program = torch.onnx.export(
            module, (), kwargs={INPUT: torch.from_numpy(samples[0])}, dynamo=True, verbose=False
        )
        program.save(plain)
    for ranges in ("minmax", "percentile", "entropy", "mse"):
        artifact = optc.compile(
            plain,
            pipeline=PIPELINE % ranges,
            calibration=[{INPUT: sample} for sample in samples],
            gate=False,
        )
        artifact.save(folder / f"optc {ranges}")
    peers(folder, samples)
    expected = outputs(plain)
    errors = {key: error(expected, outputs(path)) for key, path in contestants(folder)}
    (folder / "errors.json").write_text(json.dumps(errors, indent=1))
    for key, value in sorted(errors.items(), key=lambda item: item[1]):
        print(f"{name:12s} {key:40s} {value:.4f}", flush=True)


def peers(folder: Path, samples: list[np.ndarray]) -> None:
    """What quantize_static makes of the model behind its own pre-processing."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    if not prepared.exists():
        quant_pre_process(folder / "float.onnx", prepared)
    for form, types, ranges, channels in itertools.product(FORMATS, TYPES, RANGES, (True, False)):
        path = folder / f"{form} {types} {'channel' if channels else 'tensor'} {ranges}.onnx"
        if path.exists() or (ranges != "MinMax" and (form, types, channels) != ("QDQ", "U8S8", True)):
            continue  # ranges change no speed
        q.quantize_static(
            prepared,
            path,
            _Reader(samples),
            quant_format=q.QuantFormat[form],
            per_channel=channels,
            activation_type=q.QuantType.QUInt8 if types[0] == "U" else q.QuantType.QInt8,
            weight_type=q.QuantType.QUInt8 if types[2] == "U" else q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod[ranges],
        )


class _Reader:
    """The samples as quantize_static wants them."""

    def __init__(self, samples: list[np.ndarray]) -> None:
        self._left = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """One feed after the other, then None."""
        sample = next(self._left, None)
        return None if sample is None else {INPUT: sample}


def contestants(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and models of all."""
    yield "float", folder / "float.onnx"
    for path in sorted(folder.glob("optc */model.onnx")):
        yield path.parent.name, path
    for path in sorted(folder.glob("Q* *.onnx")):
        yield path.stem, path


def outputs(path: Path) -> list[np.ndarray]:
    """On the test images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [session.run(None, {INPUT: images(1, 900 + i)})[0] for i in range(TEST)]


def error(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Relative L2."""
    off = sum(float(((a - b) ** 2).sum()) for a, b in zip(expected, found, strict=True))
    return (off / sum(float((a**2).sum()) for a in expected)) ** 0.5


def measure(folder: Path, rounds: int, seconds: float, match: str) -> Table:
    """Milliseconds and ratios to optc."""
    errors = json.loads((folder / "errors.json").read_text())
    chosen = {key: path for key, path in contestants(folder) if match in key or key == "optc mse"}
    chosen = {key: path for key, path in chosen.items() if key == "optc mse" or "optc" not in key}
    x = {INPUT: np.load(folder / "x.npy")}
    times = turns.take(chosen, [x], rounds=rounds, seconds=seconds)
    result = Table(folder.name, "ms", "time / optc", "error")
    for key in sorted(chosen, key=lambda k: float(times.milliseconds(k)[0])):
        ratio = np.median(times.seconds[key][:, 0] / times.seconds["optc mse"][:, 0])
        result.add_row(key, f"{times.milliseconds(key)[0]:.2f}", f"{ratio:.3f}", f"{errors[key]:.4f}")
    return result


if __name__ == "__main__":
    main()
