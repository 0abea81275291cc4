"""Networks of many kinds with random weights, as people deploy them, for `benchmarks/levels.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_TOKENS, _WORDS, _PIXELS, _SECOND = 64, 2000, 128, 16_000

Draw = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Kind:
    """``make`` gives a network of one input; ``draw`` that input, [samples, ...]."""

    make: Callable[[], nn.Module]
    draw: Draw


class _Taken(nn.Module):
    """One result of a transformers model, by its name."""

    def __init__(self, model: nn.Module, name: str, given: str) -> None:
        super().__init__()
        self.model, self.name, self.given = model, name, given

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model(**{self.given: x}), self.name)


def _texts(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randint(5, _WORDS, (samples, _TOKENS), generator=generator)


def _images(samples: int, generator: torch.Generator) -> Tensor:
    """Coarse blobs of different contrast, which more resemble photographs than noise does."""
    coarse = torch.randn(samples, 3, 8, 8, generator=generator)
    contrast = (0.35 * torch.randn(samples, 1, 1, 1, generator=generator)).exp()
    return nn.functional.interpolate(coarse, (_PIXELS, _PIXELS), mode="bilinear") * contrast


def _sounds(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, _SECOND, generator=generator)


def _rows(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, 256, generator=generator)


def _series(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, 48, 64, generator=generator)


def _distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=_WORDS, dim=384, n_layers=4, n_heads=6, hidden_dim=1536)
    return _Taken(DistilBertModel(config), "last_hidden_state", "input_ids")


def _t5() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=_WORDS, d_model=256, d_kv=32, d_ff=1024, num_layers=4, num_heads=8)
    return _Taken(T5EncoderModel(config), "last_hidden_state", "input_ids")


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=_WORDS,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        use_cache=False,
    )
    return _Taken(LlamaForCausalLM(config), "logits", "input_ids")


def _swin() -> nn.Module:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=_PIXELS, window_size=4, embed_dim=48, depths=[2, 2, 2], num_heads=[2, 4, 8]
    )
    return _Taken(SwinForImageClassification(config), "logits", "pixel_values")


def _convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[48, 96, 192, 384], depths=[2, 2, 4, 2], layer_scale_init_value=0.5)
    return _Taken(ConvNextForImageClassification(config), "logits", "pixel_values")


def _regnet() -> nn.Module:
    from transformers import RegNetConfig, RegNetForImageClassification

    config = RegNetConfig(hidden_sizes=[32, 64, 160, 384], depths=[1, 2, 4, 2], groups_width=16)
    return _Taken(RegNetForImageClassification(config), "logits", "pixel_values")


def _efficientnet() -> nn.Module:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        image_size=_PIXELS, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280
    )
    return _Taken(EfficientNetForImageClassification(config), "logits", "pixel_values")


def _wav2vec2() -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=768,
        conv_dim=(64,) * 7,
        num_conv_pos_embeddings=32,
    )
    return _Taken(Wav2Vec2Model(config), "last_hidden_state", "input_values")


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.LSTM(64, 256, num_layers=2, batch_first=True), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)[0])


def _mlp() -> nn.Module:
    widths = (256, 1024, 1024, 512, 10)
    layers: list[nn.Module] = []
    for i, o in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _UNet(nn.Module):
    """Two steps down, two up, with what was before each step beside what comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.down, self.deep = _pair(3, 24), _pair(24, 48), _pair(48, 96)
        self.up, self.end, self.head = _pair(144, 48), _pair(72, 24), nn.Conv2d(24, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.start(x)
        second = self.down(nn.functional.max_pool2d(first, 2))
        deep = self.deep(nn.functional.max_pool2d(second, 2))
        up = self.up(torch.cat([_twice(deep), second], 1))
        return self.head(self.end(torch.cat([_twice(up), first], 1)))


def _pair(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()),
        *(nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()),
    )


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


KINDS = {
    "distilbert": Kind(_distilbert, _texts),
    "t5-encoder": Kind(_t5, _texts),
    "llama": Kind(_llama, _texts),
    "swin": Kind(_swin, _images),
    "convnext": Kind(_convnext, _images),
    "regnet": Kind(_regnet, _images),
    "efficientnet": Kind(_efficientnet, _images),
    "unet": Kind(_UNet, _images),
    "wav2vec2": Kind(_wav2vec2, _sounds),
    "lstm": Kind(_Lstm, _series),
    "mlp": Kind(_mlp, _rows),
}


def made(kind: Kind, seed: int = 0) -> nn.Module:
    """The network, its batch norms with the statistics of data of its own."""
    torch.manual_seed(seed)
    network = kind.make().eval()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None  # the plain mean of all batches
    if norms:
        with torch.no_grad():
            for batch in kind.draw(32, torch.Generator().manual_seed(seed)).split(8):
                network(batch)
    return network.eval()
