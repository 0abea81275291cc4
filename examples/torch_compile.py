"""`torch.compile(model, backend="optc")`: what is compiled, what is noticed, and what is not compiled.

python examples/torch_compile.py
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

import optc.torch_backend


class Classifier(nn.Module):
    """An encoder over tokens, and a head over their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Args are int64 [batch, seq]; returns float32 [batch, 3]."""
        return self.head(self.encoder(self.embed(ids)).mean(1))


def main() -> None:
    """Each step prints what the backend counted."""
    torch.manual_seed(0)
    model = Classifier().eval()
    fast = torch.compile(model, backend="optc", options={"level": 1})

    with torch.inference_mode():
        for batch, length in ((2, 8), (3, 8), (5, 20), (7, 30)):  # sizes become dynamic when they change
            ids = torch.randint(1000, (batch, length))
            torch.testing.assert_close(fast(ids), model(ids), rtol=1e-4, atol=1e-5)
    show("four shapes")

    model.load_state_dict({name: weight * 1.5 for name, weight in model.state_dict().items()})
    with torch.inference_mode():
        torch.testing.assert_close(fast(ids), model(ids), rtol=1e-4, atol=1e-5)
    show("after load_state_dict")

    noisy = torch.compile(lambda x: x + torch.randn(3), backend="optc")
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        noisy(torch.zeros(3))
    show("a graph that stays in eager mode")
    print("warning:", str(caught[-1].message).splitlines()[0])

    try:
        fast(ids)
    except Exception as error:  # dynamo may wrap it
        print("with gradients:", str(error).splitlines()[0])


def show(title: str) -> None:
    """One line of counts."""
    found = optc.torch_backend.stats()
    print(
        f"{title}: {found.graphs} graphs, {found.artifact_calls} artifact calls, "
        f"{found.recompiles} recompiles, {found.fallbacks} fallbacks"
    )


if __name__ == "__main__":
    main()
