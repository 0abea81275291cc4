"""What comes out of a compiled function: values, types, structure, memory, and what it does to its inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import X, agree, captured
from torch import nn

from optc.torch_backend import stats


def test_structures_numbers_and_none() -> None:
    def function(x: Any) -> Any:
        return {"a": x + 1, "b": [x * 2, None, 3, (x - 1,)], "n": None, "size": x.shape[0]}, True

    assert captured(function, (X,), (X + 1,)).artifact_calls == 2


FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: torch.dtype) -> None:
    """float64 has no kernel of erf in the runtime, and takes tanh instead of gelu."""
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    captured(model.eval(), (X.to(dtype),))


def test_whole_numbers_and_truth_values() -> None:
    def function(a: Any, b: Any, c: Any, d: Any) -> Any:
        return a + 1, a * 2.5, a // 2, a % 3, b + c, b.sum(), c + c, d & (a > 0), ~d, d.any(), d.sum()

    numbers = torch.arange(6) - 3
    captured(function, (numbers, numbers.int(), torch.arange(6, dtype=torch.uint8), numbers > 1))


def test_scalars_and_empty_tensors() -> None:
    def function(a: Any, b: Any, c: Any) -> Any:
        return (
            a + b,
            torch.stack([a, a]),
            c + 1,
            c.sum(),
            torch.cat([c, c]),
            nn.functional.linear(c, c.t() @ c),
        )

    captured(function, (torch.tensor(2.0), torch.tensor(3), torch.empty(0, 4)))


def test_inputs_are_changed_in_place() -> None:
    def function(a: Any, b: Any) -> Any:
        a.add_(1)
        b[:, 0] = a[:, 0] * 2
        return a * b

    captured(function, (X, -X), (X + 1, X))


def test_an_input_changed_through_a_view_that_is_a_result() -> None:
    def function(a: Any) -> Any:
        part = a[:, 1:3]
        part.mul_(2)
        return part

    captured(function, (X,))
    a = X.clone()
    with torch.no_grad():
        part = torch.compile(function, backend="optc")(a)
    part.zero_()
    assert not a[:, 1:3].any()


def test_results_that_are_inputs_or_views_of_them() -> None:
    def function(a: Any) -> Any:
        return a, a.transpose(0, 1), a[0], a.view(-1), a + 1

    captured(function, (X,))
    a = X.clone()
    with torch.no_grad():
        itself, turned, first, flat, _ = torch.compile(function, backend="optc")(a)
    assert itself is a
    flat.zero_()
    assert not a.any() and not turned.any() and not first.any()
    assert turned.stride() == a.transpose(0, 1).stride()


def test_results_that_share_memory() -> None:
    def function(a: Any) -> Any:
        b = a * 2
        return b, b[0], b.view(-1), b.transpose(0, 1)

    assert captured(function, (X,)).artifact_calls == 1
    with torch.no_grad():
        whole, first, flat, turned = torch.compile(function, backend="optc")(X)
    first.zero_()
    assert not whole[0].any() and not flat[:12].any() and not turned[:, 0].any() and whole[1].any()


def test_results_have_the_strides_of_eager_mode() -> None:
    def function(a: Any) -> Any:
        return (a * 2).transpose(0, 2), torch.relu(a)

    image = torch.rand(1, 2, 3, 3).to(memory_format=torch.channels_last)
    with torch.no_grad():
        actual, expected = torch.compile(function, backend="optc")(image), function(image)
    assert [t.stride() for t in actual] == [t.stride() for t in expected]
    assert stats().fallbacks == 0


def test_results_are_not_overwritten_by_the_next_call() -> None:
    compiled = torch.compile(lambda a: a + 1, backend="optc")
    with torch.no_grad():
        first = compiled(X)
        kept = first.clone()
        compiled(X + 5)
    torch.testing.assert_close(first, kept)


def test_inputs_that_are_not_contiguous() -> None:
    captured(lambda a, b: a @ b, (torch.rand(4, 3).t(), torch.rand(8, 2)[::2]))


def test_branches_on_data_make_several_graphs() -> None:
    def function(a: Any) -> Any:
        b = a * 2
        return b + 1 if a.sum() > 0 else b - 1

    found = captured(function, (X + 3,), (X - 3,))
    assert found.graphs == 3 and found.artifact_calls == 4


def test_a_graph_break_in_the_middle() -> None:
    def function(a: Any) -> Any:
        b = a * 2
        torch._dynamo.graph_break()
        return b + 1

    assert captured(function, (X,)).graphs == 2


def test_results_whose_size_depends_on_data() -> None:
    agree(lambda a: (a[a > 0], torch.unique(a.round())), (X,), (X - 1,))


def test_control_flow_operators() -> None:
    def function(a: Any) -> Any:
        return torch.cond(a.sum() > 0, lambda v: v + 1, lambda v: v - 1, (a,))

    captured(function, (X + 3,), (X - 3,))


def test_autocast_around_and_inside() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()

    def inside(a: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(a)

    captured(inside, (X,))
    with torch.autocast("cpu", torch.bfloat16):
        captured(model, (X,))
    captured(model, (X,))
    with torch.no_grad():
        assert torch.compile(model, backend="optc")(X).dtype == torch.float32


def test_inference_mode_and_inference_tensors() -> None:
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend="optc")
    with torch.inference_mode():
        x = X + 1
        result = compiled(x)
        torch.testing.assert_close(result, model(x))
    assert stats().artifact_calls == 1 and stats().fallbacks == 0
