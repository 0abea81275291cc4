"""Answers at padded tokens: found by what they depend on, and no part of the error of lossy passes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from optc import padded
from optc.capture import capture
from optc.observers import Compare
from optc.passbase import Report
from optc.passes.quantize import Quantize
from optc.pipeline import Record
from optc.registry import find_pass

WIDTH, TOKENS = 8, 6
RNG = np.random.default_rng(0)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = (q @ k.transpose(-1, -2)).masked_fill(mask[:, None, :] == 0, -1e9)
        x = self.norms[0](x + self.out(scores.softmax(-1) @ v))
        return self.norms[1](x + self.mlp(x))


class Encoder(nn.Module):
    """A vector per token, and numbers of the first token alone, as many as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(20, WIDTH), nn.Embedding(2, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(WIDTH, TOKENS)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.words(ids) + self.kinds(kinds)
        for layer in self.layers:
            x = layer(x, mask)
        return x, self.head(x[:, 0])


@pytest.fixture(scope="module")
def model() -> ir.Model:
    torch.manual_seed(0)
    return capture(Encoder().eval(), tuple(torch.from_numpy(v) for v in sample(6, 4).values())).model


def sample(*lengths: int) -> dict[str, np.ndarray]:
    """Token ids, mask and kinds [batch, tokens]; the second half of the tokens is of another kind."""
    places = np.arange(TOKENS)[None].repeat(len(lengths), 0)
    mask = (places < np.array(lengths)[:, None]).astype(np.int64)
    ids = RNG.integers(1, 20, places.shape) * mask
    return {"ids": ids, "mask": mask, "kinds": (places > 2).astype(np.int64)}


def test_the_mask_is_found_by_what_it_does(model: ir.Model) -> None:
    dense, of_first = (str(value.name) for value in model.graph.outputs)
    found = padded.find(model, [sample(6, 6), sample(6, 4)])
    assert found is not None and found.masks == {dense: "mask"}  # not the kinds, which are 0 and 1 as well
    assert str(found) == f"{dense!r} where 'mask' marks padding"
    outputs = {dense: np.ones((2, TOKENS, WIDTH)), of_first: np.ones((2, TOKENS))}
    left = found.without(sample(6, 4), outputs)
    assert left[dense].shape == (10, WIDTH) and left[of_first].shape == (2, TOKENS)
    assert found.without(sample(6, 6), outputs)[dense].shape == (2, TOKENS, WIDTH)


def test_without_padded_samples_nothing_is_left_out(model: ir.Model) -> None:
    assert padded.find(model, [sample(6, 6)]) is None
    assert padded.find(model, []) is None


def test_flags_that_real_answers_depend_on_are_no_padding(model: ir.Model) -> None:
    """A mask that only bends scores leaves its tokens in the answers of all."""
    clone = model.clone()
    fills = [v for v in clone.graph.initializers.values() if _number(v) == pytest.approx(-1e9)]
    assert fills
    for fill in fills:
        fill.const_value = ir.tensor(np.float32(-1.0), name=fill.name)
    assert padded.find(clone, [sample(6, 4)]) is None


def _number(value: ir.Value) -> float:
    tensor = value.const_value
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else 0.0


def test_the_error_of_a_lossy_pass_is_that_of_the_real_tokens(model: ir.Model) -> None:
    samples = [sample(6, 4), sample(3, 6)]
    wrong = _wrong_at_padding(model)
    compare = Compare(samples)
    compare.start(model)
    lossy = Record(Quantize(), Report(True), 0.0, model)
    assert compare.after(0, lossy, wrong) is None
    error = lossy.findings["error"]
    assert isinstance(error, Mapping)
    assert error["rel_l2"] < 1e-5 and "'mask' marks padding" in error["left_out"]


def test_an_exact_pass_answers_for_padding_too(model: ir.Model) -> None:
    compare = Compare([sample(6, 4)])
    compare.start(model)
    exact = Record(find_pass("simplify")(), Report(True), 0.0, model)
    assert "changed the results" in str(compare.after(0, exact, _wrong_at_padding(model)))
    assert "left_out" not in exact.findings["error"]  # type: ignore[operator]


def _wrong_at_padding(model: ir.Model) -> ir.Model:
    """The model with zeros for its dense output at padding."""
    clone = model.clone()
    old = clone.graph.outputs[0]
    mask = next(value for value in clone.graph.inputs if value.name == "mask")
    axes = ir.node("Constant", [], {"value": ir.tensor(np.array([2], np.int64))})
    flags = ir.node("Unsqueeze", [mask, axes.outputs[0]])
    factor = ir.node("Cast", [flags.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    product = ir.node("Mul", [old, factor.outputs[0]])
    new, name = product.outputs[0], str(old.name)
    new.type, new.shape = old.type, old.shape
    for number, node in enumerate((axes, flags, factor, product)):
        node.name = node.outputs[0].name = f"made_{number}"
        clone.graph.append(node)
    old.name, new.name = "kept", name
    clone.graph.outputs[0] = new
    return clone
