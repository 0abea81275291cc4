"""Small networks with random weights, and inputs whose sizes differ, for `benchmarks/budgets.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SPREAD = 0.35  # standard deviation of the logarithm of how large a sample is
_TOKENS, _WORDS = 32, 1000


def _conv(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]


def _active(
    i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(*_conv(i, o, k, stride, groups), act())


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class _Gate(nn.Module):
    """Squeeze and excite: channels times what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = (
            nn.Conv2d(channels, channels // 4, 1),
            nn.Conv2d(channels // 4, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))


class _Residual(nn.Module):
    """What the body makes, added to the input, which a projection fits to it."""

    def __init__(self, body: nn.Module, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Sequential(*_conv(i, o, 1, stride)) if stride != 1 or i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class _Inverted(nn.Module):
    """MobileNetV2's block: wide, by channel, narrow."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        wide = 4 * i
        self.body = nn.Sequential(
            _active(i, wide, 1, act=nn.ReLU6),
            _active(wide, wide, 3, stride, wide, nn.ReLU6),
            *_conv(wide, o, 1),
        )
        self.adds = stride == 1 and i == o

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class _Shuffled(nn.Module):
    """ShuffleNet's block: half of the channels pass, then they change places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            _active(half, half, 1), *_conv(half, half, 3, groups=half), _active(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        joined = torch.cat([kept, self.body(changed)], 1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class _Layer(nn.Module):
    """A transformer layer; ``first``: norms in front of its halves, else behind their sums."""

    def __init__(self, width: int, heads: int, first: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.first = heads, first

    def _attended(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (
            each(x).view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for each in (self.q, self.k, self.v)
        )
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))

    def _wide(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self._attended(self.n1(x))
            return x + self._wide(self.n2(x))
        x = self.n1(x + self._attended(x))
        return self.n2(x + self._wide(x))


class _Vit(nn.Module):
    def __init__(self, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.places = nn.Parameter(torch.randn(1, 17, width) * 0.3)
        self.layers = nn.Sequential(*(_Layer(width, 4, first=True) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.layers(x))[:, 0])


class _Bert(nn.Module):
    def __init__(self, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(_WORDS, width), nn.Embedding(_TOKENS, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(_Layer(width, 4, first=False) for _ in range(layers)))
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.norm(self.words(x) + self.places.weight[: x.shape[1]])
        return self.head(self.layers(embedded).mean(1))


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lstm = nn.Linear(32, 96), nn.LSTM(96, 128, batch_first=True)
        self.up, self.middle, self.head = nn.Linear(128, 1024), nn.Linear(1024, 1024), nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        last = self.lstm(F.relu(self.inner(x)))[0][:, -1]
        return self.head(F.relu(self.middle(F.gelu(self.up(last)))))


def _squeeze_excite() -> nn.Module:
    def block(i: int, o: int, stride: int) -> nn.Module:
        return _Residual(nn.Sequential(_active(i, o, 3, stride), *_conv(o, o), _Gate(o)), i, o, stride)

    return nn.Sequential(
        _active(3, 16, 3, 2), block(16, 16, 1), block(16, 32, 2), block(32, 64, 2), *_head(64)
    )


def _regnet() -> nn.Module:
    def block(i: int, o: int, stride: int) -> nn.Module:
        body = nn.Sequential(_active(i, o, 1), _active(o, o, 3, stride, 8), _Gate(o), *_conv(o, o, 1))
        return _Residual(body, i, o, stride)

    return nn.Sequential(
        _active(3, 16, 3, 2), block(16, 24, 2), block(24, 48, 2), block(48, 48, 1), *_head(48)
    )


def _mobilenet() -> nn.Module:
    shapes = ((16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1))
    return nn.Sequential(
        _active(3, 16, 3, 2, act=nn.ReLU6),
        *(_Inverted(*shape) for shape in shapes),
        _active(32, 128, 1, act=nn.ReLU6),
        *_head(128),
    )


def _shufflenet() -> nn.Module:
    return nn.Sequential(
        _active(3, 24, 3, 2),
        nn.MaxPool2d(3, 2, 1),
        *(_Shuffled(24), _Shuffled(24), _active(24, 48, 1), _Shuffled(48), _Shuffled(48)),
        _active(48, 96, 1),
        *_head(96),
    )


def _resnet() -> nn.Module:
    def block(i: int, o: int, stride: int) -> nn.Module:
        return _Residual(nn.Sequential(_active(i, o, 3, stride), *_conv(o, o)), i, o, stride)

    return nn.Sequential(
        _active(3, 16, 3, 2), block(16, 16, 1), block(16, 32, 2), block(32, 64, 2), *_head(64)
    )


def _mlp() -> nn.Module:
    hidden = [part for _ in range(2) for part in (nn.Linear(768, 768), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, 768), nn.ReLU(), *hidden, nn.Linear(768, 10))


def _images(count: int, random: torch.Generator) -> Tensor:
    made = []
    for _ in range(count):
        smooth = F.interpolate(torch.randn(1, 3, 8, 8, generator=random), size=(32, 32), mode="bilinear")
        made.append((smooth + 0.3 * torch.randn(1, 3, 32, 32, generator=random)) * _sizes(1, random))
    return torch.cat(made)


def _texts(count: int, random: torch.Generator) -> Tensor:
    frequencies = 1 / torch.arange(1, _WORDS + 1).float()
    drawn = torch.multinomial(frequencies, count * _TOKENS, replacement=True, generator=random)
    return drawn.view(count, _TOKENS)


def _vectors(count: int, random: torch.Generator) -> Tensor:
    return torch.randn(count, 64, generator=random) * _sizes(count, random)


def _sequences(count: int, random: torch.Generator) -> Tensor:
    walks = torch.randn(count, 20, 32, generator=random).cumsum(1) * 0.3
    return walks * _sizes(count, random)[..., None]


def _sizes(count: int, random: torch.Generator) -> Tensor:
    return torch.exp(_SPREAD * torch.randn(count, 1, generator=random))


@dataclass(frozen=True)
class Family:
    """How to make a network, and ``count`` inputs of it, [count, ...]."""

    network: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor]


FAMILIES = {
    "squeeze-excite": Family(_squeeze_excite, _images),
    "regnet": Family(_regnet, _images),
    "mobilenet": Family(_mobilenet, _images),
    "shufflenet": Family(_shufflenet, _images),
    "resnet": Family(_resnet, _images),
    "vit": Family(_Vit, _images),
    "bert": Family(_Bert, _texts),
    "mlp": Family(_mlp, _vectors),
    "lstm": Family(_Lstm, _sequences),
}


def made(family: Family, seed: int) -> nn.Module:
    """A network whose weights and norms are not those of a fresh module, in evaluation mode."""
    torch.manual_seed(seed)
    network = family.network()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
                part.weight.copy_(torch.exp(0.3 * torch.randn_like(part.weight)))
                part.bias.normal_(0, 0.2)
            elif isinstance(part, nn.Linear) and not norms:
                part.weight.normal_(0, 1 / math.sqrt(part.in_features))
                part.bias.normal_(0, 0.1)
        if norms:
            _settle(network, norms, family.inputs(256, torch.Generator().manual_seed(99_000 + seed)))
    return network.eval()


def _settle(network: nn.Module, norms: list[nn.BatchNorm2d], inputs: Tensor) -> None:
    """Gives the norms the statistics of these inputs."""
    network.train()
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    network(inputs)
