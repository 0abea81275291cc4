"""Containers of users' own go in and come out as they are, whatever their code does when they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree

import optc
from optc.errors import UserError


class Cache:
    """Keys and values, and a tensor of its own that every new one makes, as those of transformers do."""

    def __init__(self, keys: Any, values: Any) -> None:
        self.empty = torch.tensor([])
        self.keys, self.values = torch.cat([self.empty.to(keys.dtype).view(0, 4), keys]), values


def keyed(cache: Cache) -> Any:
    return [(_pytree.GetAttrKey(name), getattr(cache, name)) for name in ("keys", "values")], None


@pytest.fixture
def registered() -> Iterator[None]:
    _pytree.register_pytree_node(
        Cache,
        lambda cache: ([cache.keys, cache.values], None),
        lambda parts, _: Cache(*parts),
        serialized_type_name="Cache",
        flatten_with_keys_fn=keyed,
    )
    yield
    _pytree._deregister_pytree_node(Cache)


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any, past: Any) -> Any:
        keys = torch.cat([past.keys, self.linear(x)])
        return {"x": keys.sum(0), "past": Cache(keys, past.values + 1)}


def cache(rows: int) -> Cache:
    draw = torch.Generator().manual_seed(rows)
    return Cache(torch.randn(rows, 4, generator=draw), torch.randn(2, generator=draw))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_container_goes_in_and_comes_out(dynamic: bool) -> None:
    model, x = Step().eval(), torch.ones(1, 4)
    shapes = {"x": None, "past": [{0: "rows"}, None]} if dynamic else None
    artifact = optc.compile(model, (x, cache(3)), dynamic_shapes=shapes, gate=False)
    for rows in (3, 7) if dynamic else (3,):
        got = artifact(x, cache(rows))
        with torch.no_grad():
            want = model(x, cache(rows))
        assert isinstance(got["past"], Cache)
        torch.testing.assert_close(torch.as_tensor(got["past"].keys), want["past"].keys)
        torch.testing.assert_close(torch.as_tensor(got["past"].values), want["past"].values)
        torch.testing.assert_close(torch.as_tensor(got["x"]), want["x"])


@pytest.mark.usefixtures("registered")
def test_an_exported_program_stays_as_it_was() -> None:
    model, x = Step().eval(), torch.ones(1, 4)
    program = torch.export.export(model, (x, cache(3)), strict=False)
    before = program.module_call_graph[0].signature
    optc.compile(program, gate=False)
    assert program.module_call_graph[0].signature == before
    torch.testing.assert_close(program.module()(x, cache(3))["x"], model(x, cache(3))["x"])


def test_a_class_that_is_not_registered_is_refused_with_the_way_to_do_it() -> None:
    with pytest.raises(UserError, match="a Cache cannot be an input") as caught:
        optc.compile(Step().eval(), (torch.ones(1, 4), cache(3)), gate=False)
    assert "register_pytree_node" in str(caught.value)


def test_questions_about_all_of_a_tensor() -> None:
    class Asks(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.aten._is_all_true(x > 0), torch.ops.aten._is_any_true(x > 0)

    artifact = optc.compile(Asks(), torch.ones(2, 3), dynamic_shapes=({0: "rows"},), gate=False)
    rows = torch.tensor([[1.0, 2, 3], [4, 5, -1]])
    for given in (rows, rows[:1], rows[:0], -rows.abs()):
        assert [bool(answer) for answer in artifact(given)] == [
            bool((given > 0).all()),
            bool((given > 0).any()),
        ]
