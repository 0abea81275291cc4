"""Weights are baked in, and no change of them goes unnoticed."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import X, agree, same
from torch import nn

from optc import torch_backend
from optc.torch_backend import stats
from optc.torch_backend.build import build
from optc.torch_backend.weights import Watch


class Small(nn.Module):
    """A weight, a buffer, and a tensor that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.plain = torch.ones(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x)) * self.scale + self.plain


def swap(model: Small) -> None:
    model.linear.weight = nn.Parameter(torch.rand(4, 4))


def load(model: Small) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def assign(model: Small) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)


def step(model: Small) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with torch.enable_grad():
        model(X).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


CHANGES: dict[str, Callable[[Small], Any]] = {
    "load_state_dict": load,
    "load_state_dict by assignment": assign,
    "in place": lambda m: m.linear.weight.mul_(2),
    "one element": lambda m: m.linear.weight[0, 0].fill_(9),
    "data is another tensor": lambda m: setattr(m.linear.weight, "data", torch.rand(4, 4)),
    "in place through data": lambda m: m.linear.weight.data.mul_(3),
    "filled through data": lambda m: m.linear.bias.data.zero_(),
    "in place through numpy": lambda m: m.linear.weight.detach().numpy().fill(0.5),
    "another parameter": swap,
    "a buffer": lambda m: m.scale.add_(1),
    "a statistic": lambda m: m.norm.running_mean.add_(1),
    "a plain tensor": lambda m: m.plain.add_(1),
    "another plain tensor": lambda m: setattr(m, "plain", torch.zeros(4)),
    "an optimizer": step,
}


def test_every_change_is_seen() -> None:
    """One model is changed in all ways in turn, so that most executables are reached after a change."""
    model = Small().eval()
    compiled = torch.compile(model, backend="optc")
    with torch.no_grad():
        same(compiled(X), model(X))
        for name, change in CHANGES.items():
            before = model(X)
            change(model)
            expected = model(X)
            assert not torch.equal(before, expected), name
            for _ in range(2):  # the second call counts as use, or the backend would give up
                torch.testing.assert_close(
                    compiled(X), expected, msg=lambda text, name=name: f"{name}: {text}"
                )
            compiled(X)
    assert stats().fallbacks == 0, stats().reasons
    assert stats().artifact_calls == 1 + 3 * len(CHANGES)


def test_unchanged_weights_do_not_recompile() -> None:
    model = Small().eval()
    compiled = torch.compile(model, backend="optc")
    with torch.no_grad():
        for _ in range(4):
            compiled(X)
            model.state_dict()
            [p.numel() for p in model.parameters()]
    assert (stats().graphs, stats().recompiles, stats().artifact_calls) == (1, 0, 4)


def test_weights_that_change_at_every_call_end_in_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optc.torch_backend.compiled._MOST_WASTED", 2)
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend="optc")
    with (
        torch.no_grad(),
        pytest.warns(UserWarning, match="change at nearly every call") as caught,
    ):
        for _ in range(5):
            model.weight.mul_(1.1)
            torch.testing.assert_close(compiled(X), model(X))
    assert len(caught) == 1
    assert stats().fallbacks == 1 and stats().eager_calls >= 2


class Counting(nn.Module):
    """State that every call changes: set to a new tensor, or written to where another graph reads it."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.linear, self.in_place = nn.Linear(4, 4), in_place
        self.register_buffer("state", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.in_place:
            self.state = torch.tanh(self.linear(x[0, 0]) + self.state)
            return self.state * 2
        self.state.add_(x[0, 0])
        torch._dynamo.graph_break()
        return self.linear(x) + self.state * 2


@pytest.mark.parametrize("in_place", [False, True])
def test_buffers_that_change_at_every_call_become_inputs(
    in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def counted(*given: Any) -> Any:
        made.append(build(*given))
        return made[-1]

    monkeypatch.setattr("optc.torch_backend.compiled.build", counted)
    model = Counting(in_place=in_place)
    reference = copy.deepcopy(model)
    compiled = torch.compile(model, backend="optc", options={"level": 0})
    with torch.no_grad():
        for _ in range(8):
            same(compiled(X), reference(X))
            same(model.state, reference.state)
        assert len(made) == 4 + in_place
        for each in (model, reference):
            each.linear.weight.mul_(2)
        same(compiled(X), reference(X))
    assert stats().fallbacks == 0


def test_equal_layers_whose_buffers_differ_keep_them_constant() -> None:
    """They take turns; none of them changes."""
    layers = [nn.BatchNorm1d(3).eval() for _ in range(6)]
    for layer in layers:
        layer.running_mean.normal_()
    made: list[Any] = []

    def backend(module: Any, inputs: Any) -> Any:
        made.append(torch_backend.optc(module, inputs, options={"level": 0}))
        return made[-1]

    compiled = torch.compile(lambda layer, x: layer(x), backend=backend)
    with torch.no_grad():
        for layer in layers:
            same(compiled(layer, X), layer(X))
    assert len(made) == 1 and len(made[0]._graph.static) == 4


def test_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(x))

    model = Tied().eval()
    ids = torch.tensor([[1, 2]])
    assert agree(model, (ids,)).graphs == 1
    with torch.no_grad():
        model.embed.weight.mul_(2)
    assert agree(model, (ids,)).recompiles >= 0
    assert stats().fallbacks == 0


def test_equal_layers_share_a_graph_and_not_their_weights() -> None:
    def apply(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return layer(x)

    compiled = torch.compile(apply, backend="optc")
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    with torch.no_grad():
        for layer in (first, second, first, second, copy.deepcopy(first)):
            torch.testing.assert_close(compiled(layer, X), layer(X))
        second.weight.add_(1)
        torch.testing.assert_close(compiled(first, X), first(X))
        torch.testing.assert_close(compiled(second, X), second(X))
    assert stats().fallbacks == 0


def test_weights_that_are_gone_free_their_executable() -> None:
    made: list[Any] = []

    def backend(module: Any, inputs: Any) -> Any:
        made.append(torch_backend.optc(module, inputs))
        return made[-1]

    model = nn.Linear(4, 4)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        compiled(X)
    assert sum(len(variants) for variants in made[0]._variants.values()) == 1
    watched = weakref.ref(model.weight)
    del model, compiled
    torch._dynamo.reset()
    gc.collect()
    assert watched() is None
    assert not made[0]._variants


def test_what_a_watch_sees() -> None:
    weight, buffer = nn.Parameter(torch.rand(100, 100)), torch.zeros(0, 3)
    watch = Watch([weight, buffer])
    assert watch.holds([weight, buffer])
    assert not watch.holds([nn.Parameter(weight.detach()), buffer])
    weight.data.add_(1)
    assert not watch.holds([weight, buffer])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.bfloat16, torch.float64, torch.complex64])
def test_a_watch_takes_every_type_and_layout(dtype: torch.dtype) -> None:
    for tensor in (
        torch.ones(3, 5).to(dtype).t(),
        torch.ones(1).to(dtype).expand(4),
        torch.tensor(1).to(dtype),
    ):
        watch = Watch([tensor])
        assert watch.holds([tensor])
        tensor.data.zero_()
        assert not watch.holds([tensor])
