"""LSTM, GRU and RNN are captured as one operator per layer, for sequences of any length."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
import torch
from captured_module import module
from torch import nn
from torch.nn.utils import rnn
from torch.utils import _pytree

from optc import oracle
from optc.capture import Captured, capture
from optc.capture.recurrent import WholeSequences
from optc.errors import CaptureError

KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "both ways, two layers": {"bidirectional": True, "num_layers": 2, "dropout": 0.5},
    "batch first, no bias": {"batch_first": True, "bias": False, "num_layers": 2},
}


def made(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return KINDS[kind](6, 5, **options).eval()


def assert_same(captured: Captured, layer: nn.Module, *given: Any) -> None:
    """What the captured model gives for these inputs is what the module gives."""
    names = [value.name for value in captured.model.graph.inputs]
    feeds = dict(zip(names, (x.numpy() for x in _pytree.tree_leaves(given)), strict=True))
    with torch.no_grad():
        expected = _pytree.tree_leaves(layer(*given))
    for one, other in zip(oracle.run(captured.model, feeds).values(), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


def counted(captured: Captured) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in captured.model.graph)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_sequence_and_the_batch_may_have_any_size(kind: str, form: str) -> None:
    layer = made(kind, **FORMS[form])
    captured = capture(layer, torch.randn(4, 3, 6), dynamic_shapes=({0: "one", 1: "two"},))
    operator = {"lstm": "LSTM", "gru": "GRU"}.get(kind, "RNN")
    assert counted(captured)[operator] == FORMS[form].get("num_layers", 1)
    for first, second in ((4, 3), (1, 7), (9, 1), (1, 1)):
        assert_same(captured, layer, torch.randn(first, second, 6))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_state_may_be_given(kind: str) -> None:
    layer = made(kind, num_layers=2, bidirectional=True)
    state = [torch.randn(4, 3, 5) for _ in range(2 if kind == "lstm" else 1)]
    given = tuple(state) if kind == "lstm" else state[0]
    sizes = ({1: "batch"}, {1: "batch"}) if kind == "lstm" else {1: "batch"}
    captured = capture(layer, (torch.randn(4, 3, 6), given), dynamic_shapes=({0: "steps", 1: "batch"}, sizes))
    assert_same(captured, layer, torch.randn(4, 3, 6), given)


def test_what_leads_in_and_out_keeps_its_dims() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gru = nn.Embedding(11, 6), nn.GRU(6, 8, batch_first=True)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            states, _ = self.gru(self.embed(tokens))
            return states + self.attend(states, states, states, need_weights=False)[0]

    torch.manual_seed(0)
    tagger = Tagger().eval()
    captured = capture(tagger, torch.randint(0, 11, (2, 9)), dynamic_shapes=({0: "batch", 1: "steps"},))
    assert [str(size) for size in captured.model.graph.outputs[0].shape or ()] == ["batch", "steps", "8"]
    assert_same(captured, tagger, torch.randint(0, 11, (3, 20)))


def test_a_long_sequence_is_not_traced_step_by_step() -> None:
    captured = capture(made("lstm"), torch.randn(300, 2, 6))
    assert counted(captured)["LSTM"] == 1 and len(captured.model.graph) < 30


def test_a_plain_rnn_of_known_length_stays_unrolled() -> None:
    """ONNX Runtime's RNN takes twice the time of its steps where there are several sequences."""
    layer = made("tanh", batch_first=True)
    captured = capture(layer, torch.randn(3, 4, 6), dynamic_shapes=({0: "batch"},))
    assert counted(captured)["RNN"] == 0 and counted(captured)["Tanh"] == 4
    assert_same(captured, layer, torch.randn(5, 4, 6))


def test_weights_may_be_computed() -> None:
    layer = nn.utils.parametrizations.weight_norm(made("gru"), "weight_hh_l0").eval()
    assert_same(capture(layer, torch.randn(4, 3, 6)), layer, torch.randn(4, 3, 6))


def test_one_sequence_without_a_batch() -> None:
    layer = made("lstm")
    captured = capture(layer, torch.randn(4, 6), dynamic_shapes=({0: "steps"},))
    assert_same(captured, layer, torch.randn(11, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    layer, x = made("gru").to(dtype), torch.randn(4, 3, 6).to(dtype)
    captured = capture(layer, x)
    with torch.no_grad():
        expected = layer(x)[0].float().numpy()
    actual = next(iter(oracle.run(captured.model, captured.examples[0]).values()))
    np.testing.assert_allclose(np.asarray(actual).astype(np.float32), expected, atol=2e-2)


def test_a_program_of_torch_keeps_its_layers_too() -> None:
    layer, x = made("lstm", bidirectional=True), torch.randn(4, 3, 6)
    program = torch.export.export(layer, (x,))
    assert any("aten.lstm" in str(node.target) for node in program.graph.nodes)
    captured = capture(program)
    assert counted(captured)["LSTM"] == 1
    assert_same(captured, layer, x)


@pytest.mark.parametrize(
    ("layer", "example", "reason"),
    [
        (nn.LSTM(6, 5, proj_size=2), torch.randn(4, 3, 6), "proj_size"),
        (nn.LSTM(6, 5).double(), torch.randn(4, 3, 6).double(), "no kernel for doubles"),
        (nn.GRU(6, 5), torch.randn(0, 3, 6), "without steps"),
    ],
    ids=["projection", "double", "empty"],
)
def test_what_has_no_form_is_refused(layer: nn.Module, example: torch.Tensor, reason: str) -> None:
    with pytest.raises(CaptureError, match=reason) as caught:
        capture(layer.eval(), example)
    assert "custom operators" not in str(caught.value)


def test_packed_sequences_go_their_own_way() -> None:
    """Traced or not, what torch calls with the sizes of its batches is not taken for something else."""
    layer = made("lstm")
    packed = rnn.pack_padded_sequence(torch.randn(4, 2, 6), torch.tensor([4, 2]))
    with torch.no_grad():
        expected = layer(packed)[0].data
        with WholeSequences():
            actual = layer(packed)[0].data
    assert torch.equal(actual, expected)


def test_in_eager_mode_ours_computes_what_theirs_does() -> None:
    layer = made("gru", num_layers=2)
    options = (True, 2, 0.0, False, False, False)
    given = (torch.randn(4, 3, 6), torch.randn(2, 3, 5), [*layer.parameters()], *options)
    with torch.no_grad():
        expected, actual = torch.gru(*given), torch.ops.optc.gru(*given)
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def test_a_call_by_keywords_is_left_to_torch() -> None:
    layer = made("gru")

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        weights, options = [*layer.parameters()], {"dropout": 0.0, "train": False, "bidirectional": False}
        state = torch.zeros(1, 3, 5)
        return torch.gru(x, state, weights, has_biases=True, num_layers=1, batch_first=False, **options)[0]

    x = torch.randn(4, 3, 6)
    with WholeSequences(), torch.no_grad():
        assert torch.equal(forward(None, x), layer(x)[0])
    captured = capture(module(forward), x)
    with torch.no_grad():
        expected = layer(x)[0].numpy()
    [found] = oracle.run(captured.model, captured.examples[0]).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_forward_that_reads_the_length_still_makes_it_constant() -> None:
    """Python that counts the steps does so while tracing; the error names the dim."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[step] * step for step in range(x.shape[0])])

    with pytest.raises(CaptureError, match="steps"):
        capture(module(forward), torch.randn(4, 3), dynamic_shapes=({0: "steps"},))
