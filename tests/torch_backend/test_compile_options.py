"""``options`` and ``mode`` of torch.compile: checked by name and value before anything is compiled."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from side_by_side import X, captured
from torch import nn

from optc.errors import UserError
from optc.torch_backend.options import Options

WRONG: list[tuple[dict[Any, Any], str]] = [
    ({"levle": 1}, "did you mean 'level'"),
    ({"level": "1"}, "a whole number"),
    ({"level": True}, "a whole number"),
    ({"threads": 0}, "out of range"),
    ({"seed": -5}, "out of range"),
    ({"gate_seconds": -1.0}, "out of range"),
    ({"max_error": -1.0}, "out of range"),
    ({"max_error": float("nan")}, "out of range"),
    ({"gate": 1}, "True or False"),
    ({"max_error": "small"}, "a number"),
    ({"target_options": ["x"]}, "a dict"),
    ({"cache": "a\0b"}, "text"),
    ({1: 2}, "known: cache"),
]


@pytest.mark.parametrize("options,text", WRONG)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        Options.parse(options)
    assert text in str(caught.value) and "torch.compile" in str(caught.value)


@pytest.mark.parametrize(
    "options,text",
    [
        ({"level": 9}, "levels: 0, 1, 2"),
        ({"level": 3}, "calibration"),
        ({"pipeline": "simplfy"}, "simplify"),
        ({"target_options": {"threds": 1}}, "threds"),
        ({"levle": 1}, "did you mean"),
    ],
)
def test_users_see_the_message(options: dict[str, Any], text: str) -> None:
    """As it is, not wrapped in an error of torch that asks to report a bug to PyTorch."""
    with torch.no_grad(), pytest.raises(UserError, match=text):
        torch.compile(nn.Linear(4, 2), backend="optc", options=options)(X)


def test_modes() -> None:
    compiled = torch.compile(nn.Linear(4, 2), backend="optc", mode="max-autotune")
    for _ in range(2):
        with torch.no_grad(), pytest.raises(UserError, match="no mode 'max-autotune'"):
            compiled(X)


@pytest.mark.parametrize(
    "options", [{"level": 0}, {"pipeline": "simplify", "threads": 1, "check": False}, {"max_error": 0.1}]
)
def test_options_that_work(options: dict[str, Any]) -> None:
    captured(nn.Linear(4, 2), (X,), options=options)


def test_an_error_of_0_leaves_room_for_rounding() -> None:
    captured(lambda x: (x @ x.mT).softmax(-1), (X,), options={"level": 2, "max_error": 0.0})


def test_what_decides_on_the_executable_is_in_its_key() -> None:
    plain = Options().key()
    assert Options(cache="elsewhere", check=False, threads=1).key() == plain
    for changed in (Options(level=2), Options(seed=1), Options(pipeline="fuse"), Options(gate=True)):
        assert changed.key() != plain


def test_torch_finds_the_backend() -> None:
    [found] = entry_points(group="torch_dynamo_backends", name="optc")
    assert found.value == "optc.torch_backend:optc"
    assert "optc" in torch._dynamo.list_backends()


def test_no_setting_of_the_process_changes() -> None:
    def settings() -> dict[str, Any]:
        return {
            "dynamo": torch._dynamo.config.save_config_portable(),
            "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "grad": torch.is_grad_enabled(),
            "dtype": torch.get_default_dtype(),
            "compiling": torch.compiler.is_compiling(),
            "fastpath": torch.backends.mha.get_fastpath_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "random": torch.get_rng_state().tolist(),
        }

    model = nn.Linear(4, 2).eval()
    before = settings()
    captured(model, (X,))
    assert settings() == before


def test_the_module_stays_in_its_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 2)).train()
    captured(model, (X,))
    assert model.training and all(p.requires_grad for p in model.parameters())
