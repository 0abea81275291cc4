"""How the choice of sites goes on from what it tried, on planted errors of six sites that are all alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Report
from optc.passes.quantize import choice
from optc.passes.quantize.choice.judge import Found
from optc.passes.quantize.choice.sensitivity import Group

NAMES, ALLOWED = tuple("abcdef"), 0.1


@dataclass
class Planted:
    """A judge whose answers are known, of models in which so many sites were quantized."""

    answers: list[float]
    tried: list[int] = field(default_factory=list)
    judges: bool = True

    def of(self, _: ir.Model) -> Found:
        expected = self.answers.pop(0)
        return Found(expected, expected)

    def allows(self, found: Found) -> bool:
        return found.expected <= ALLOWED

    def only_metric_fails(self, _: Found) -> bool:
        return False

    def apply(self, _: ir.Model, left: Mapping[str, str], __: Collection[str]) -> Report:
        self.tried.append(len(NAMES) - len(left))
        return Report(True)


def tried(answers: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sites were quantized, first all of them and then by each attempt."""
    planted = Planted(list(answers))
    monkeypatch.setattr(choice, "Judge", lambda *_: planted)
    monkeypatch.setattr(choice, "_measured", lambda *_: ([Group((n,), 1.0) for n in NAMES], [None] * 6))
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    scheme = choice.Scheme(
        planted.apply, lambda _: NAMES, lambda _: lambda *_: model, dict.fromkeys(NAMES, 1.0)
    )
    choice.within(model, Context(registry.find_target("cpu"), max_error=ALLOWED), scheme)
    assert not planted.answers
    return planted.tried


def test_squares_of_errors_add_up_and_what_is_left_takes_in_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """All make 1.5 times too much, so 1 / 1.5^2 of six may stay; with two there is room for two more."""
    assert tried([0.15, 0.07, 0.09], monkeypatch) == [6, 2, 4]


def test_an_attempt_that_just_misses_is_followed_by_a_clearly_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tried([0.15, 0.101, 0.09], monkeypatch) == [6, 2, 1]


def test_where_the_error_hardly_falls_with_fewer_sites_the_search_still_ends_with_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tried([0.104, 0.104, 0.104, 0.09], monkeypatch) == [6, 5, 3, 1]


@pytest.mark.parametrize("last", [0.09, 0.3])
def test_the_last_attempt_has_a_single_site_and_none_is_made_twice(
    last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tried([0.15, 0.3, last], monkeypatch) == [6, 2, 1]
