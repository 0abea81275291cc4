"""Blocks are found in every architecture from structure alone, and their entries and exits are exact."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from partition import check_partition
from small_encoder import TOKENS, WIDTH, Encoder, encoder, exported, mlp
from torch import nn

from optc.analysis.blocks import Block, find_blocks
from optc.session import open_session


def without(block: Block) -> None:
    block.exit.replace_all_uses_with(block.entry, replace_graph_outputs=True)


@pytest.mark.parametrize("style", ["pre", "post", "parallel"])
def test_transformer_layers(style: str) -> None:
    _, model = encoder(style)
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["transformer"] * 3
    for block in found.blocks:
        assert block.attention is not None and block.mlp is not None
        assert block.parallel == (style == "parallel")
        assert any(node.op_type == "Softmax" for node in block.attention.nodes)
        assert not any(node.op_type == "Softmax" for node in block.mlp.nodes)
        assert not set(block.attention.nodes) & set(block.mlp.nodes)
        if style != "parallel":
            assert block.attention.entry is block.entry and block.mlp.exit is block.exit
            assert block.attention.exit is block.mlp.entry
    masks = [node for node in found.prologue if node.op_type == "Where"]
    assert masks and any(node.op_type == "Gather" for node in found.prologue)
    assert found.epilogue[-1].op_type == "Softmax"


@pytest.mark.parametrize("style", ["pre", "post", "parallel"])
def test_rewiring_exit_to_entry_is_the_model_without_that_layer(style: str) -> None:
    module, model = encoder(style)
    shorter = copy.deepcopy(module)
    del shorter.layers[1]
    model = model.clone()
    without(find_blocks(model).blocks[1])
    feeds = {value.name: tensor.numpy() for value, tensor in zip(model.graph.inputs, TOKENS, strict=True)}
    actual = open_session(model, optimize=False).run(None, feeds)[0]
    np.testing.assert_allclose(actual, shorter(*TOKENS).detach(), rtol=1e-5, atol=1e-6)


def test_a_single_layer_is_one_block() -> None:
    found = find_blocks(exported(Encoder("post", depth=1), TOKENS))
    assert [(b.kind, len(b.parts)) for b in found.blocks] == [("transformer", 2)]


class Bottleneck(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride, 1), nn.ReLU(), nn.Conv2d(4, out, 1)
        )
        self.skip = nn.Conv2d(width, out, 1, stride) if width != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def test_resnet_bottlenecks_with_identity_and_projected_skips() -> None:
    stages = nn.Sequential(Bottleneck(8, 16, 2), Bottleneck(16, 16, 1), Bottleneck(16, 32, 2))
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
    )
    model = exported(net, (torch.zeros(1, 3, 16, 16),))
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["conv"] * 3
    assert [block.exit.producer().op_type for block in found.blocks] == ["Relu"] * 3
    assert [sum(n.op_type == "Conv" for n in block.nodes) for block in found.blocks] == [4, 3, 4]
    assert [node.op_type for node in found.prologue] == ["Conv", "Relu"]


class Stages(nn.Module):
    """Two stages of MLP blocks around a projection that has no skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = (
            nn.ModuleList(mlp() for _ in range(2)),
            nn.ModuleList(mlp() for _ in range(2)),
        )
        self.between = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.before:
            x = x + layer(x)
        x = self.between(x)
        for layer in self.after:
            x = x + layer(x)
        return x


def test_what_lies_between_stages_is_a_transition() -> None:
    model = exported(Stages(), (torch.zeros(3, WIDTH),))
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["mlp", "mlp", "transition", "mlp", "mlp"]


class LongSkip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(mlp() for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for layer in self.layers:
            y = y + layer(y)
        return x + y


def test_a_skip_over_the_whole_trunk_does_not_hide_the_blocks() -> None:
    model = exported(LongSkip(), (torch.zeros(3, WIDTH),))
    assert [block.kind for block in find_blocks(model).blocks] == ["mlp"] * 4


class Nested(nn.Module):
    """Residual layers in two stages with a skip over each, and one over both."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(LongSkip() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for stage in self.stages:
            y = stage(y)
        return x + y


def test_skips_over_skips_over_the_blocks_are_levels_of_their_own() -> None:
    model = exported(Nested(), (torch.zeros(3, WIDTH),))
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["mlp", "mlp"]
    assert [len(stream) for stream in found.streams] == [3]


def test_a_plain_stack_is_cut_at_its_heavy_layers() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1),
    )  # fmt: skip
    model = exported(net, (torch.zeros(1, 1, 14, 14),))
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["conv", "conv", "mlp", "mlp"]
    assert [node.op_type for node in found.epilogue] == ["Softmax"]


def test_two_towers_are_two_streams() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = LongSkip(), LongSkip()

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.left(x) @ self.right(y).T

    model = exported(Towers(), (torch.zeros(3, WIDTH), torch.ones(3, WIDTH)))
    found = find_blocks(model)
    check_partition(model, found)
    assert [len(stream) for stream in found.streams] == [5, 5]
    assert {block.stream for block in found.blocks} == {0, 1}


class Tapped(nn.Module):
    """A parallel layer whose first partial sum is an output as well: the norm is not where it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.left, self.right = nn.LayerNorm(WIDTH), mlp(), mlp()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.norm(x)
        partial = x + self.left(y)
        return partial, partial + self.right(y)


def test_the_entry_is_before_the_norm_that_a_skip_goes_around() -> None:
    model = exported(Tapped(), (torch.zeros(3, WIDTH),))
    assert find_blocks(model).stream[0] is model.graph.inputs[0]


def test_weights_that_are_listed_as_inputs_are_weights() -> None:
    """Files before IR 4 do so; taken for data, every weight would be an ancestor that nothing else shares."""
    model = exported(Stages(), (torch.zeros(3, WIDTH),))
    before = [block.kind for block in find_blocks(model).blocks]
    model.graph.inputs.extend(model.graph.initializers.values())
    assert [block.kind for block in find_blocks(model).blocks] == before


class Inception(nn.Module):
    """Two modules of two branches; the last branch is deeper than what follows the module."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(2))
        self.long = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for short, long in zip(self.short, self.long, strict=True):
            x = torch.cat([short(x), long(x)], 1)
        return self.head(x.mean((2, 3)))


def test_a_stack_of_branches_is_cut_where_they_meet() -> None:
    model = exported(Inception(), (torch.zeros(1, 4, 5, 5),))
    found = find_blocks(model)
    check_partition(model, found)
    assert [block.kind for block in found.blocks] == ["conv", "conv", "mlp"]
    assert [block.nodes[-1].op_type for block in found.blocks[:2]] == ["Concat", "ReduceMean"]
