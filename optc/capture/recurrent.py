"""LSTM, GRU and RNN over a whole sequence: one operator, whose sequence may have any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from torch.overrides import TorchFunctionMode

from .literals import ints

# For each gate of ONNX the place that it has in torch: i, o, f, c of i, f, g, o; z, r, h of r, z, n.
_LSTM_GATES, _GRU_GATES, _RNN_GATES = (0, 3, 1, 2), (1, 0, 2), (0,)

_OPTIONS = "bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
_SCHEMAS = {
    "lstm": f"(Tensor input, Tensor[] hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    "gru": f"(Tensor input, Tensor hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor)",
    "rnn_tanh": f"(Tensor input, Tensor hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor)",
    "rnn_relu": f"(Tensor input, Tensor hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor)",
}


class WholeSequences(TorchFunctionMode):
    """While a module is traced in it, `nn.LSTM`, `nn.GRU` and `nn.RNN` call an operator of ours.

    torch finds the shapes of its own by running step after step, which makes the length of the sequence a
    constant of the program, and takes as long as the sequence is.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        ours = _OURS.get(func)
        if ours is not None and _is_call_of_a_layer(args) and not _is_better_unrolled(func, args):
            func = ours
        return func(*args, **(kwargs or {}))


def _is_call_of_a_layer(args: Sequence[Any]) -> bool:
    """Layers pass everything by position; packed sequences have weights where others say ``has_biases``."""
    return len(args) == 9 and isinstance(args[3], bool)


def _is_better_unrolled(func: Any, args: Sequence[Any]) -> bool:
    """Steps of an RNN, their number known: for several sequences they are faster than ONNX Runtime's RNN."""
    given, batch_first = args[0], args[8]
    return func in (torch._VF.rnn_tanh, torch._VF.rnn_relu) and isinstance(
        given.shape[1 if batch_first else 0], int
    )


def _operator(name: str) -> Callable[..., Any]:
    """optc::name, which computes what aten::name does, and knows its shapes without computing."""
    theirs = getattr(torch._VF, name)

    def shapes(given: Any, state: Any, params: Any, *options: Any) -> tuple[Any, ...]:
        states = state if name == "lstm" else [state]
        bidirectional, batch_first = options[4:]
        if given.shape[1 if batch_first else 0] == 0:
            raise ValueError(f"{name} of a sequence without steps")
        width = states[0].shape[-1] * (2 if bidirectional else 1)
        return given.new_empty((*given.shape[:-1], width)), *map(torch.empty_like, states)

    def compute(*args: Any) -> tuple[Any, ...]:
        return tuple(theirs(*args))

    found = torch.library.custom_op(f"optc::{name}", compute, mutates_args=(), schema=_SCHEMAS[name])
    found.register_fake(shapes)
    return found


_OURS = {getattr(torch._VF, name): _operator(name) for name in _SCHEMAS}


def lstm(
    given: Any,
    state: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any, Any]:
    """torch.lstm over sequences of one length.

    Args:
        given: [S, N, I], or [N, S, I] if ``batch_first``.
        state: hidden and cell state, each [layers * directions, N, H].
        params: per layer and direction the weights [4 * H, I] and [4 * H, H], and two biases [4 * H].

    Returns:
        [S, N, directions * H] or with the first axes swapped, and the last hidden and cell state.

    Raises:
        NotImplementedError: projections (``proj_size``), which ONNX lacks, doubles, or dropout.
    """
    hidden, cell = state
    if hidden.shape[-1] != cell.shape[-1]:
        raise NotImplementedError("an LSTM with proj_size has no ONNX form")

    def layer(x: Any, weights: Sequence[Any], index: int, direction: str) -> Any:
        first = [_rows(each, index, bidirectional) for each in (hidden, cell)]
        size = {"hidden_size": hidden.shape[-1], "direction": direction}
        return op.LSTM(x, *_packed(weights, _LSTM_GATES, has_biases), None, *first, **size)

    output, last, last_cell = _stacked(
        layer, given, params, num_layers, dropout if train else 0.0, bidirectional, batch_first
    )
    return output, last, last_cell


def _one_state(kind: str, gates: tuple[int, ...], activation: str | None = None) -> Callable[..., Any]:
    """torch.gru, rnn_tanh or rnn_relu: as `lstm`, with one state and so many gates."""

    def translated(
        given: Any,
        state: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, Any]:
        attributes: dict[str, Any] = {
            "linear_before_reset": 1
        }  # torch resets behind the product, with its bias
        if activation is not None:
            attributes = {"activations": [activation] * (2 if bidirectional else 1)}

        def layer(x: Any, weights: Sequence[Any], index: int, direction: str) -> Any:
            packed = _packed(weights, gates, has_biases)
            first = _rows(state, index, bidirectional)
            size = {"hidden_size": state.shape[-1], "direction": direction}
            return getattr(op, kind)(x, *packed, None, first, **size, **attributes)

        output, last = _stacked(
            layer, given, params, num_layers, dropout if train else 0.0, bidirectional, batch_first
        )
        return output, last

    return translated


def _stacked(
    layer: Callable[..., Any],
    given: Any,
    params: Sequence[Any],
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, ...]:
    """Layer after layer: the output of the last, and the states of all behind their last step."""
    if dropout:
        raise NotImplementedError("dropout between recurrent layers is for training")
    if given.dtype == ir.DataType.DOUBLE:
        raise NotImplementedError("ONNX Runtime has no kernel for doubles: call .float() on the module")
    per_layer = len(params) // num_layers
    direction, width = "bidirectional" if bidirectional else "forward", 2 * params[1].shape[-1]
    x, last = _single(op.Transpose(given, perm=[1, 0, 2]) if batch_first else given, given), []
    for index in range(num_layers):
        weights = [_single(each, given) for each in params[index * per_layer : (index + 1) * per_layer]]
        by_direction, *states = layer(x, weights, index, direction)
        last.append(states)
        x = _side_by_side(by_direction, width) if bidirectional else op.Squeeze(by_direction, ints(1))
    output = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    states = [op.Concat(*each, axis=0) if num_layers > 1 else each[0] for each in zip(*last, strict=True)]
    return tuple(_as_given(each, given) for each in (output, *states))


def _side_by_side(by_direction: Any, width: int) -> Any:
    """[S, directions, N, H] as [S, N, directions * H]."""
    return op.Reshape(op.Transpose(by_direction, perm=[0, 2, 1, 3]), ints(0, 0, width))


def _single(value: Any, given: Any) -> Any:
    """In float32 where the input is bfloat16, which these operators of ONNX lack."""
    return op.Cast(value, to=ir.DataType.FLOAT) if given.dtype == ir.DataType.BFLOAT16 else value


def _as_given(value: Any, given: Any) -> Any:
    return op.Cast(value, to=given.dtype) if given.dtype == ir.DataType.BFLOAT16 else value


def _rows(state: Any, index: int, bidirectional: bool) -> Any:
    """What a layer starts from, [directions, N, H]."""
    count = 2 if bidirectional else 1
    return _single(op.Slice(state, ints(index * count), ints((index + 1) * count), ints(0)), state)


def _packed(weights: Sequence[Any], gates: tuple[int, ...], has_biases: bool) -> tuple[Any, Any, Any]:
    """The weights of a layer as ONNX has them: [directions, gates * H, I or H], and its biases together."""
    parts = [_ordered(each, gates) for each in weights]
    per_direction = 4 if has_biases else 2
    of_input, of_state = (_by_direction(parts[kind::per_direction]) for kind in (0, 1))
    if not has_biases:
        return of_input, of_state, None
    biases = [
        op.Concat(*parts[first + 2 : first + 4], axis=0) for first in range(0, len(parts), per_direction)
    ]
    return of_input, of_state, _by_direction(biases)


def _by_direction(parts: Sequence[Any]) -> Any:
    rows = [op.Unsqueeze(part, ints(0)) for part in parts]
    return rows[0] if len(rows) == 1 else op.Concat(*rows, axis=0)


def _ordered(weight: Any, gates: tuple[int, ...]) -> Any:
    if len(gates) == 1:
        return weight
    pieces = op.Split(weight, axis=0, num_outputs=len(gates))
    return op.Concat(*(pieces[gate] for gate in gates), axis=0)


_TRANSLATIONS: dict[str, Callable[..., Any]] = {
    "lstm": lstm,
    "gru": _one_state("GRU", _GRU_GATES),
    "rnn_tanh": _one_state("RNN", _RNN_GATES, "Tanh"),
    "rnn_relu": _one_state("RNN", _RNN_GATES, "Relu"),
}
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    **{getattr(torch.ops.optc, name).default: translated for name, translated in _TRANSLATIONS.items()},
    torch.ops.aten.lstm.input: _TRANSLATIONS["lstm"],
    torch.ops.aten.gru.input: _TRANSLATIONS["gru"],
}
