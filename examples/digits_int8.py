"""Static int8 on three small networks: accuracy, file size and latency before and after.

python examples/digits_int8.py

A CNN, a depthwise CNN in the style of MobileNetV2 and a vision transformer learn scikit-learn's handwritten
digits in seconds, and are compiled once exactly and once in int8 with ranges from training images.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn

import optc
from optc import measure

INT8 = "simplify, quantize{scheme=int8-static}, fuse"
CALIBRATION = 256  # training images


class Cnn(nn.Sequential):
    """Three convolutions with batch norm, a residual around the last one, and a mean over space."""

    def __init__(self) -> None:
        super().__init__(
            _conv(1, 32), _conv(32, 64, stride=2), Residual(_conv(64, 64)), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip


class MobileNet(nn.Sequential):
    """Inverted residuals: wide, depthwise, narrow, with Relu6 between."""

    def __init__(self) -> None:
        super().__init__(
            _conv(1, 16, act=nn.ReLU6), _inverted(16, 24, stride=2), Residual(_inverted(24, 24)),
            Residual(_inverted(24, 24)), _conv(24, 96, size=1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(96, 10),
        )  # fmt: skip


class Vit(nn.Module):
    """Patches of 2 x 2, three transformer layers, and the mean over tokens."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, 8, 8] to logits [batch, 10]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean(1))


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, width] to the same."""
        batch, tokens, width = x.shape
        split = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2])
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class Residual(nn.Module):
    """Adds the input to what a module makes of it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        return x + self.inner(x)


def _conv(
    into: int, out: int, *, size: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    conv = nn.Conv2d(into, out, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), act())


def _inverted(into: int, out: int, *, stride: int = 1, expand: int = 4) -> nn.Sequential:
    wide = into * expand
    return nn.Sequential(
        _conv(into, wide, size=1, act=nn.ReLU6),
        _conv(wide, wide, stride=stride, groups=wide, act=nn.ReLU6),
        _conv(wide, out, size=1, act=nn.Identity),
    )


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and test data: images [N, 1, 8, 8] from 0 to 1, and labels [N]."""
    data = load_digits()
    x, y = (data.images[:, None] / 16).astype(np.float32), data.target
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[:450], order[450:]
    return (x[train], y[train]), (x[test], y[test])


def train(module: nn.Module, x: np.ndarray, y: np.ndarray, *, epochs: int) -> nn.Module:
    """The trained module; the same from run to run on one machine."""
    torch.manual_seed(0)
    images, labels, batch = torch.from_numpy(x), torch.from_numpy(y), 64
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    module.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
            loss = nn.functional.cross_entropy(module(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return module.eval()


def compiled(module: nn.Module, x: np.ndarray, pipeline: str | None = None) -> optc.Artifact:
    """The module as a program with a dynamic batch; with a pipeline, calibrated on the first images."""
    [name] = inspect.signature(module.forward).parameters
    return optc.compile(
        module,
        (torch.from_numpy(x[:2]),),
        dynamic_shapes={name: {0: torch.export.Dim("batch", min=1, max=4096)}},
        pipeline=pipeline,
        calibration={name: x[:CALIBRATION]} if pipeline else None,
        gate=False,
    )


def accuracy(artifact: optc.Artifact, x: np.ndarray, y: np.ndarray) -> float:
    """Percent of the images whose digit is found."""
    return 100 * float((np.asarray(artifact(x)).argmax(-1) == y).mean())


def kilobytes(artifact: optc.Artifact) -> float:
    """Of the model's files."""
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(f"{folder}/out")
        return sum(file.stat().st_size for file in Path(folder, "out").glob("model.onnx*")) / 1024


def main() -> None:
    """Trains, compiles and prints a table; fails where int8 costs more than half a point."""
    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = digits()
    table = Table("model", "", "test accuracy", "model size", "batch of 64")
    drops = []
    for name, kind, epochs in (("CNN", Cnn, 12), ("depthwise CNN", MobileNet, 12), ("ViT", Vit, 25)):
        torch.manual_seed(0)
        module = train(kind(), x, y, epochs=epochs)
        before, after = compiled(module, x), compiled(module, x, INT8)
        timing = measure.paired({"f": lambda: before(x[:64]), "q": lambda: after(x[:64])}, seconds=2)  # noqa: B023
        for label, key, artifact in (("float", "f", before), ("int8", "q", after)):
            found = accuracy(artifact, test_x, test_y)
            size, time = f"{kilobytes(artifact):.0f} KiB", f"{timing.median(key) * 1e3:.2f} ms"
            table.add_row(name if key == "f" else "", label, f"{found:.2f} %", size, time)
        drops.append(accuracy(before, test_x, test_y) - accuracy(after, test_x, test_y))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    sys.exit(0 if max(drops) <= 0.5 else 1)


if __name__ == "__main__":
    main()
