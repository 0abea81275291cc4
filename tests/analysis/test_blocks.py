"""Blocks are found in every architecture from structure alone, and their entries and exits are exact."""

from __future__ import annotations

import copy

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from small_encoder import TOKENS, WIDTH, Encoder, encoder, exported, mlp
from torch import nn

from optc.analysis.blocks import Block, Blocks, find_blocks
from optc.analysis.graph import captures, dataflow
from optc.analysis.stream import split_units
from optc.errors import InvalidModel
from optc.session import open_session


def check_partition(model: ir.Model, blocks: Blocks) -> None:
    grouped = [*blocks.prologue, *blocks.epilogue, *(node for block in blocks.blocks for node in block.nodes)]
    assert sorted(map(id, grouped)) == sorted(map(id, model.graph))
    for stream in blocks.streams:
        mine = [b for b in blocks.blocks if b.entry in stream and b.exit in stream]
        assert [block.exit for block in mine] == list(stream[1:])
        assert [block.entry for block in mine] == list(stream[:-1])


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


WEIGHTS_COMPUTED = """<ir_version: 10, opset_import: ["": 20]>
f (float[4,4] x) => (float[4,4] y) <float[4,2] a = {1,2,3,4,5,6,7,8}, float[2,4] b = {8,7,6,5,4,3,2,1}> {
    w = MatMul(a, b)  v = Relu(w)
    h = MatMul(x, w)  r = Relu(h)  m = Add(x, r)
    n = Mul(m, v)
    i = MatMul(n, w)  s = Relu(i)  y = Add(n, s)
}"""


def test_what_is_computed_from_weights_alone_is_no_data() -> None:
    """Low-rank or dequantized weights are products of constants, and no layers."""
    model = ir.from_proto(onnx.parser.parse_model(WEIGHTS_COMPUTED))
    found = find_blocks(model)
    check_partition(model, found)
    assert [(block.entry.name, block.exit.name) for block in found.blocks] == [("x", "n"), ("n", "y")]
    assert [node.outputs[0].name for node in found.prologue] == ["w"]  # which both blocks read


TWO_SHORT_TOWERS = """<ir_version: 10, opset_import: ["": 20]>
f (float[N,2] x, float[N,2] z) => (float[N,2] y, float[N,2] u) <float[2,2] w = {1,2,3,4}> {
    a = MatMul(x, w)  b = Add(x, a)  c = MatMul(b, w)  y = Add(b, c)
    p = MatMul(z, w)  q = Add(z, p)  r = MatMul(q, w)  u = Add(q, r)
}"""


def test_two_towers_of_two_layers_each_are_both_found() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TWO_SHORT_TOWERS))
    found = find_blocks(model)
    check_partition(model, found)
    assert sorted((block.entry.name, block.exit.name) for block in found.blocks) == [
        ("b", "y"), ("q", "u"), ("x", "b"), ("z", "q"),
    ]  # fmt: skip


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


FUSED = """
<ir_version: 9, opset_import: ["" : 20, "optc" : 1, "com.microsoft" : 1]>
main (float[2, 3, 4] x) => (float[2, 3, 4] y)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] g = {1,1,1,1}, float[4] b = {0,0,0,0}>
{
  h1 = MatMul(x, w)
  x1, s1 = optc.SkipLayerNorm(h1, x, g, b)
  q2 = MatMul(x1, w)
  a2 = optc.Attention(q2, x1, x1)
  h2 = MatMul(a2, w)
  x2 = SKIP(h2, x1, g, b)
  h3 = MatMul(x2, w)
  x3 = SKIP(h3, x2, g, b)
  q4 = MatMul(x3, w)
  a4 = optc.Attention(q4, x3, x3)
  h4 = MatMul(a4, w)
  x4 = SKIP(h4, x3, g, b)
  h5 = MatMul(x4, w)
  x5 = SKIP(h5, x4, g, b)
  y = MatMul(x5, w)
}
<domain: "optc", opset_import: ["" : 20]>
SkipLayerNorm (u, v, gamma, beta) => (o, total) {
  total = Add(u, v)
  o = LayerNormalization(total, gamma, beta)
}
<domain: "optc", opset_import: ["" : 20]>
Attention (q, k, v) => (o) {
  kt = Transpose<perm = [0, 2, 1]>(k)
  scores = MatMul(q, kt)
  p = Softmax(scores)
  o = MatMul(p, v)
}
"""


@pytest.mark.parametrize("skip", ["optc.SkipLayerNorm", "com.microsoft.SkipLayerNormalization"])
def test_skips_inside_fused_ops_are_seen(skip: str) -> None:
    model = ir.from_proto(onnx.parser.parse_model(FUSED.replace("SKIP", skip)))
    found = find_blocks(model)
    check_partition(model, found)
    assert [(b.kind, b.entry.name, b.exit.name) for b in found.blocks] == [
        ("mlp", "x", "x1"),
        ("transformer", "x1", "x3"),
        ("transformer", "x3", "x5"),
    ]
    assert [part.exit.name for part in found.blocks[1].parts] == ["x2", "x3"]


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


def test_a_graph_without_heavy_ops_is_all_prologue_or_epilogue() -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> f (float[2] x) => (float[2] y) { y = Relu(x) }'
    found = find_blocks(ir.from_proto(onnx.parser.parse_model(text)))
    assert not found.blocks and found.stream == ()
    assert len(found.prologue) + len(found.epilogue) == 1


def test_a_dangling_value_is_named() -> None:
    value = ir.Value(name="ghost")
    node = ir.node("Relu", [value], name="reader")
    model = ir.Model(ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 20}), ir_version=10)
    with pytest.raises(InvalidModel, match="ghost"):
        find_blocks(model)


def test_long_skips_by_the_thousand_stay_linear_in_what_they_visit() -> None:
    """Every sum reaches back to the input: walking them all in full would take minutes."""
    x = ir.Value(name="x", shape=ir.Shape([1, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="w", const_value=ir.tensor(np.eye(8, dtype=np.float32), name="w"))
    nodes, current = [], x
    for _ in range(1000):
        product = ir.node("MatMul", [current, weight])
        total = ir.node("Add", [x, product.outputs[0]])
        nodes += [product, total]
        current = total.outputs[0]
    graph = ir.Graph([x], [current], nodes=nodes, initializers=[weight], opset_imports={"": 20})
    model = ir.Model(graph, ir_version=10)
    check_partition(model, find_blocks(model))


@pytest.mark.parametrize(
    ("kinds", "units"),
    [
        ("cccamamam", "c c c am am am"),
        ("aamaam", "aam aam"),
        ("aam", "aam"),
        ("macmmacm", "macm macm"),
        ("mamam", "m am am"),
        ("mama", "ma ma"),
        ("aaaa", "a a a a"),
        ("", ""),
    ],
)
def test_what_repeats_is_one_unit(kinds: str, units: str) -> None:
    assert " ".join(split_units(kinds)) == units


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


def test_values_that_only_a_body_returns_or_reads_are_captured() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> f (bool c, float[2] x) => (float[2] y) {
      h = Relu(x)
      k = Exp(x)
      y = If(c) <
        then_branch = a () => (float[2] t) {
          t = If(c) <
            then_branch = d () => (float[2] u) { u = Neg(k) },
            else_branch = e () => (float[2] v) { v = Abs(h) }
          >
        },
        else_branch = b () => (float[2] w) { w = Neg(h) }
      >
    }"""
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    (read,) = captures(graph).values()
    assert sorted(value.name for value in read) == ["c", "h", "k"]
    inner = graph.node(2).attributes["then_branch"].as_graph()
    (read,) = captures(inner).values()
    assert sorted(value.name for value in read) == ["h", "k"]
    edges = {(a.op_type, b.op_type) for a, b in dataflow(graph).edges}
    assert edges == {("Relu", "If"), ("Exp", "If")}
