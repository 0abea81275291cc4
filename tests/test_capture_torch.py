"""Capture from PyTorch: the IR computes what the module computes, keeps its names, and leaves it alone."""

from __future__ import annotations

import collections
import dataclasses
import logging
import warnings
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from captured_module import X, assert_same, line_of, module, run
from torch import nn
from torch.export import Dim

from optc import oracle
from optc.capture import Captured, Signature, capture
from optc.errors import CaptureError

Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Scores:
    mean: torch.Tensor
    top: list[torch.Tensor]


torch.export.register_dataclass(Scores, serialized_type_name="tests.Scores")


def names(captured: Captured) -> tuple[list[str], list[str]]:
    graph = captured.model.graph
    return [v.name or "" for v in graph.inputs], [v.name or "" for v in graph.outputs]


def test_inputs_and_outputs_are_named_after_forward() -> None:
    def forward(self: Any, x: Any, parts: Any, *, scale: Any = None, **extra: Any) -> Any:
        return {"total": x + parts["a"] + parts["b"][0] * scale, "rest": [extra["Bias"] + x, x * 2]}

    small, kwargs = module(forward), {"Bias": X + 1, "scale": torch.tensor(2.0)}
    captured = capture(small, (X, {"a": X, "b": [X]}, kwargs))
    inputs = ["x", "parts_a", "parts_b_0", "scale", "Bias"]
    assert names(captured) == (inputs, ["total", "rest_0", "rest_1"])
    assert captured.signature.input_names == inputs
    assert list(captured.examples[0]) == inputs and captured.examples_note == "given"
    args = (X * 3, {"b": [X + 2], "a": X})
    assert_same(run(captured, *args, **kwargs), small(*args, **kwargs))


def test_variadic_arguments_are_numbered() -> None:
    def forward(self: Any, first: Any, *more: Any) -> Any:
        return first + more[0] * more[1]["k"]

    small = module(forward)
    captured = capture(small, (X, X + 1, {"k": X}))
    assert names(captured) == (["first", "more_0", "more_1_k"], ["output"])
    assert_same(run(captured, X, X - 1, {"k": X}), small(X, X - 1, {"k": X}))


@pytest.mark.parametrize("batch", [Dim("batch"), Dim("batch", min=2, max=9), Dim.DYNAMIC, "batch"])
def test_gathered_keywords_have_dynamic_dims_like_others(batch: Any) -> None:
    def forward(self: Any, x: Any, **extra: Any) -> Any:
        return x + extra["scale"] * extra["bias"]

    small, sizes = module(forward), {0: batch}
    kwargs = {"bias": X + 1, "scale": X}
    captured = capture(small, (X, kwargs), dynamic_shapes={"x": sizes, "scale": sizes, "bias": sizes})
    assert names(captured) == (["x", "bias", "scale"], ["output"])
    other = torch.cat([X, X * 2])
    assert_same(run(captured, other, bias=other, scale=other), small(other, bias=other, scale=other))
    assert "forward" not in vars(small)


def test_a_forward_of_the_instance_survives_a_capture() -> None:
    small = module(lambda self, **given: None)
    small.forward = own = lambda **given: given["a"] * 2
    captured = capture(small, {"a": X}, dynamic_shapes={"a": {0: "rows"}})
    assert_same(run(captured, a=X[:2]), X[:2] * 2)
    assert small.forward is own


def test_results_keep_their_structure() -> None:
    def forward(self: Any, x: Any) -> Any:
        size = x.shape[0]
        return (
            Pair(x + 1, None),
            collections.OrderedDict(n=size, s=Scores(x.mean(), [x * 2, x * 3])),
            "text",
            1.5,
        )

    small = module(forward)
    static, dynamic = capture(small, X), capture(small, X, dynamic_shapes=[{0: "rows"}])
    assert names(static)[1] == ["output_0_left", "output_1_s_mean", "output_1_s_top_0", "output_1_s_top_1"]
    assert "output_1_n" in names(dynamic)[1], "a size that can change is an output"
    for captured, x in ((static, X), (dynamic, X), (dynamic, torch.ones(7, 4))):
        assert_same(run(captured, x), small(x))
        loaded = dataclasses.replace(captured, signature=Signature.from_json(captured.signature.to_json()))
        assert_same(run(loaded, x), small(x))


def test_outputs_that_are_inputs_weights_or_each_other() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Parameter(torch.ones(2))  # named like an output on purpose

        def forward(self, x: Any, unused: Any, y: Any = None) -> Any:
            twice = x * 2
            return {"x": x, "y": twice, "z": twice, "w": self.output, "c": torch.arange(3)}

    model = Model().eval()
    captured = capture(model, {"x": X, "unused": X})
    inputs, outputs = names(captured)
    assert inputs == ["x", "unused"], "an input that the graph does not use stays an input"
    assert outputs == ["x_out", "y", "z", "w", "c"], "names are unique in the whole graph"
    assert_same(run(captured, X, X), model(X, X))


def test_names_do_not_collide_with_weights_or_nodes() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Parameter(torch.full((4,), 3.0))
            self.register_buffer("output_weight", torch.ones(4))

        def forward(self, add: Any) -> Any:
            return (add + self.output) * self.output_weight

    captured = capture(Model(), X)
    assert names(captured) == (["add"], ["output"])
    assert_same(run(captured, X), Model()(X))


def test_named_dims_survive_with_their_ranges() -> None:
    def forward(self: Any, x: Any, pair: Any) -> Any:
        return torch.cat([x, pair["a"]], dim=1), x.reshape(-1)

    shapes = {"x": {0: "batch", 1: Dim("left", max=64)}, "pair": {"a": {0: "batch", 1: Dim.DYNAMIC}}}
    captured = capture(module(forward), (X, {"a": X}), dynamic_shapes=shapes)
    dims = [[str(dim) for dim in value.shape or ()] for value in captured.model.graph.inputs]
    assert dims == [["batch", "left"], ["batch", "pair_a_dim_1"]]
    cat, flat = captured.model.graph.outputs
    assert [str(dim) for dim in cat.shape or ()] == ["batch", "left + pair_a_dim_1"]
    assert [str(dim) for dim in flat.shape or ()] == ["batch*left"]
    ranges = captured.model.metadata_props["optc.dims"]
    assert ranges == '{"batch": [0, null], "left": [0, 64], "pair_a_dim_1": [0, null]}'
    other = (torch.ones(1, 9), {"a": torch.zeros(1, 2)})
    assert_same(run(captured, *other), module(forward)(*other))


def test_derived_dims_keep_their_root() -> None:
    half = Dim("half", min=2, max=8)
    captured = capture(
        module(lambda self, x: x[::2] + x[1::2]), torch.ones(6), dynamic_shapes=({0: 2 * half},)
    )
    [x], [y] = captured.model.graph.inputs, captured.model.graph.outputs
    assert str(x.shape[0]).replace(" ", "") == "2*half" and str(y.shape[0]) == "half"


def test_a_batch_of_one_can_be_dynamic() -> None:
    captured = capture(nn.Linear(4, 2), torch.ones(1, 4), dynamic_shapes=({0: "batch"},))
    assert run(captured, torch.ones(5, 4)).shape == (5, 2)


class Positions(nn.Module):
    """Like a text encoder: as many positions as it has rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(1, 16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table[:, : x.shape[1]]


def test_a_dim_that_the_model_limits_is_narrowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model, x = Positions(), torch.ones(2, 8, 4)
    captured = capture(model, x, dynamic_shapes={"x": {0: "batch", 1: "seq"}})
    assert "max=16" in caplog.text
    assert captured.model.metadata_props["optc.dims"] == '{"batch": [0, null], "seq": [0, 16]}'
    assert_same(run(captured, x[:1, :3]), model(x[:1, :3]))


def test_a_dim_that_would_be_constant_is_an_error() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(module(lambda self, x: x.reshape(12)), X, dynamic_shapes={"x": {0: "rows"}})
    assert "rows" in caught.value.what and "rows = 3" in (caught.value.hint or "")


def test_the_module_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9), nn.BatchNorm1d(4)).train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    captured = capture(model, X)
    assert [part.training for part in model.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters()) and torch.is_grad_enabled()
    assert_same(run(captured, X), model.eval()(X))


def test_weights_are_shared_and_tied_ones_are_one() -> None:
    first, second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    second.weight = first.weight
    captured = capture(nn.Sequential(first, nn.ReLU(), second), torch.ones(1, 64))
    weights = [v for v in captured.model.graph.initializers.values() if v.shape == (64, 64)]
    assert len(weights) == 1
    assert np.shares_memory(weights[0].const_value.numpy(), first.weight.detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_other_dtypes(dtype: torch.dtype) -> None:
    captured = capture(module(lambda self, x: x + x), X.to(dtype))
    assert captured.model.graph.outputs[0].dtype == captured.model.graph.inputs[0].dtype
    np.testing.assert_array_equal(captured.examples[0]["x"].astype(np.float64), X.to(dtype).double().numpy())


def test_nodes_carry_the_line_they_come_from_and_nothing_else() -> None:
    def forward(self: Any, x: Any) -> Any:
        return torch.sigmoid(x)

    captured = capture(module(forward), X)
    [node] = captured.model.graph
    [(key, value)] = node.metadata_props.items()
    assert key == "optc.source" and value.endswith(
        f"test_capture_torch.py:{line_of(__file__, 'return torch.sigmoid(x)')}"
    )
    values = [*captured.model.graph.inputs, *captured.model.graph.outputs]
    assert not any(value.metadata_props or value.meta for value in values)


def test_two_captures_are_identical() -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8))

    one, two = (capture(model(), X, dynamic_shapes=({0: "n"},)) for _ in range(2))
    texts = [ir.to_proto(c.model).SerializeToString(deterministic=True) for c in (one, two)]
    assert texts[0] == texts[1] and one.source_hash == two.source_hash
    changed = model()
    with torch.no_grad():
        changed[0].bias[3] += 1e-3
    assert capture(changed, X, dynamic_shapes=({0: "n"},)).source_hash != one.source_hash


def test_the_source_hash_is_of_the_model_as_captured() -> None:
    captured, same = capture(nn.Linear(4, 4), X), None
    same = dataclasses.replace(captured)
    expected = same.source_hash
    captured.model.graph.outputs[0].name = "changed later"
    assert captured.source_hash == expected


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("torch").level
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        capture(nn.Linear(4, 4), X)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch").level == level


def test_sources_of_every_torch_kind(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU()).eval()
    program = torch.export.export(model, (X,), dynamic_shapes=({0: Dim("rows", max=9)},))
    path = tmp_path / "model.pt2"
    torch.export.save(program, path)
    graph = torch.fx.symbolic_trace(model)
    nodes = [(node.name, str(node.target)) for node in program.graph.nodes]
    for captured in (capture(program), capture(path), capture(str(path)), capture(graph, X)):
        assert names(captured) == (["input"], ["output"])
        assert_same(run(captured, X), model(X))
    assert capture(path).model.metadata_props["optc.dims"] == '{"input_dim_0": [0, 9]}'
    assert [(node.name, str(node.target)) for node in program.graph.nodes] == nodes


def test_views_that_fit_only_the_eager_strides() -> None:
    """The stock exporter fails on it: its second trace gives roll's operand other strides."""

    def forward(self: Any, x: Any) -> Any:
        y = torch.roll(x.view(1, 2, 2, 4).permute(0, 3, 1, 2).contiguous(), (1,), (2,))
        return y.permute(0, 2, 3, 1).reshape(4, 4), (1.0 - (x > 0).long()).view(-1)

    x = torch.randn(4, 4)
    assert_same(run(capture(module(forward), x), x), module(forward)(x))


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_attention_of_fewer_than_four_dims(dims: int) -> None:
    """The exporter has it with four; the program that was given stays as it was."""

    def forward(self: Any, x: Any, mask: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(x, x * 2, x + 1, mask) * 2

    x, mask = torch.rand((2,) * (dims - 2) + (3, 4)), torch.rand(3, 3)
    program = torch.export.export(module(forward), (x, mask))
    before = str(program.graph)
    assert_same(run(capture(program), x, mask), forward(None, x, mask))
    assert str(program.graph) == before


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64])
def test_shifts_keep_the_type_of_integers(dtype: torch.dtype) -> None:
    """The stock exporter makes unsigned integers signed there."""

    class Shifts(torch.nn.Module):
        def forward(self, x: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x >> 1, x[0] << 2, torch.bitwise_right_shift(x, n), torch.bitwise_left_shift(x, n)

    limits = torch.iinfo(dtype)
    x, n = (
        torch.tensor([limits.min, 3, 100, limits.max], dtype=dtype),
        torch.tensor([1, 2, 5, 6], dtype=dtype),
    )
    captured = capture(Shifts(), (x, n))
    found = oracle.run(captured.model, captured.examples[0])
    for expected, actual in zip(Shifts()(x, n), found.values(), strict=True):
        assert actual.dtype == expected.numpy().dtype
        np.testing.assert_array_equal(actual, expected.numpy())
