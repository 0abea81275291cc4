"""Blocks of real architectures: as many as there are layers, and without one the model is a layer shorter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers as hf
from torch import nn

from optc.analysis.blocks import find_blocks
from optc.session import open_session

pytestmark = pytest.mark.slow

IDS = torch.arange(2, 20).reshape(2, 9)
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
IMAGES = {"image_size": 32, "patch_size": 8}


def bert() -> tuple[nn.Module, nn.ModuleList, dict[str, torch.Tensor]]:
    model = hf.BertModel(hf.BertConfig(vocab_size=99, **SMALL), add_pooling_layer=False)
    return model, model.encoder.layer, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def llama() -> tuple[nn.Module, nn.ModuleList, dict[str, torch.Tensor]]:
    config = hf.LlamaConfig(vocab_size=99, num_key_value_heads=2, use_cache=False, **SMALL)
    model = hf.LlamaModel(config)
    return model, model.layers, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def neox() -> tuple[nn.Module, nn.ModuleList, dict[str, torch.Tensor]]:
    model = hf.GPTNeoXModel(hf.GPTNeoXConfig(vocab_size=99, use_cache=False, **SMALL))
    return model, model.layers, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def vit() -> tuple[nn.Module, nn.ModuleList, dict[str, torch.Tensor]]:
    model = hf.ViTModel(hf.ViTConfig(**SMALL, **IMAGES), add_pooling_layer=False)
    return model, model.layers, {"pixel_values": torch.randn(1, 3, 32, 32)}


class First(nn.Module):
    """Takes positional arguments and gives the hidden states alone, as the older exporter wants it."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, values, strict=True)))[0]


@pytest.mark.filterwarnings("ignore")  # of the older exporter, about tracing
@pytest.mark.parametrize(
    ("build", "dynamo"),
    [(bert, True), (llama, True), (neox, True), (vit, True), (bert, False), (neox, False), (vit, False)],
)
def test_a_model_without_its_second_block(
    build: Callable[[], tuple[nn.Module, nn.ModuleList, dict[str, torch.Tensor]]],
    dynamo: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    torch.manual_seed(0)
    model, layers, inputs = build()
    module = First(model.eval(), list(inputs)).eval()
    file = tmp_path_factory.mktemp("export") / "model.onnx"
    torch.onnx.export(module, tuple(inputs.values()), str(file), dynamo=dynamo, input_names=list(inputs))
    graph = ir.load(file)
    found = find_blocks(graph)
    assert [block.kind for block in found.blocks] == ["transformer"] * 3
    assert all(block.attention and block.mlp for block in found.blocks)
    members = [*found.prologue, *found.epilogue, *(node for block in found.blocks for node in block.nodes)]
    assert sorted(map(id, members)) == sorted(map(id, graph.graph))

    block = found.blocks[1]
    block.exit.replace_all_uses_with(block.entry, replace_graph_outputs=True)
    names = [value.name for value in graph.graph.inputs]
    feeds = {name: value.numpy() for name, value in zip(names, inputs.values(), strict=True)}
    actual = open_session(graph, optimize=False).run(None, feeds)[0]
    del layers[1]
    model.config.num_hidden_layers = 2
    with torch.no_grad():
        expected = module(*inputs.values())
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
