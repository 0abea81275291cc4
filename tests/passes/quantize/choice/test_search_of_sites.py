"""How the choice of sites goes on from what it tried, on planted errors of six sites that are all alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir
import pytest

from optc import registry
from optc.passbase import Context, Report
from optc.passes.quantize import choice
from optc.passes.quantize.choice import few
from optc.passes.quantize.choice.judge import Found
from optc.passes.quantize.choice.sensitivity import Group

NAMES, ALLOWED = tuple("abcdef"), 0.1


@dataclass
class Planted:
    """A judge whose answers are known, of models in which so many sites were quantized."""

    answers: list[float | tuple[float, float]]  # the error, and what larger samples add to it
    tried: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    judges: bool = True
    worst: list[float] = field(default_factory=list)  # the errors of far larger samples

    def of(self, _: ir.Model) -> Found:
        answer = self.answers.pop(0)
        expected, beyond = answer if isinstance(answer, tuple) else (answer, 0.0)
        worst = self.worst.pop(0) if self.worst and expected <= ALLOWED else expected
        return Found(expected, expected, None, beyond, few.Larger(expected, worst, 10**6))

    def allows(self, found: Found) -> bool:
        return found.expected <= ALLOWED

    def only_metric_fails(self, _: Found) -> bool:
        return False

    def scheme(self, width: int, model: ir.Model) -> choice.Scheme:
        def apply(_: ir.Model, left: Mapping[str, str], __: Collection[str]) -> Report:
            self.tried.append(len(NAMES) - len(left))
            self.widths.append(width)
            return Report(True, detail={"width": width})

        return choice.Scheme(apply, lambda _: NAMES, lambda _: lambda *_: model, dict.fromkeys(NAMES, 1.0))


def searched(
    answers: Sequence[float | tuple[float, float]],
    monkeypatch: pytest.MonkeyPatch,
    wider: int = 0,
    worst: Sequence[float] = (),
) -> tuple[Planted, Report]:
    planted = Planted(list(answers), worst=list(worst))
    monkeypatch.setattr(choice, "Judge", lambda *_: planted)
    monkeypatch.setattr(choice, "_measured", lambda *_: ([Group((n,), 1.0) for n in NAMES], [None] * 6))
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    first, *others = (planted.scheme(width, model) for width in range(1 + wider))
    report = choice.within(model, Context(registry.find_target("cpu"), max_error=ALLOWED), first, others)
    assert not planted.answers and not planted.worst
    return planted, report


def tried(answers: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sites were quantized, first all of them and then by each attempt."""
    return searched(answers, monkeypatch)[0].tried


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


def test_between_a_few_that_make_hardly_any_error_and_too_many_others_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Squares would leave room for all six; a net with gates kept 6 of 16 sites, with 0.001 of 0.02."""
    assert tried([0.15, 0.12, 0.001], monkeypatch) == [6, 2, 1]  # nothing lies between
    assert tried([0.104, 0.104, 0.001, 0.02], monkeypatch) == [6, 5, 3, 4]


@pytest.mark.parametrize("last", [0.09, 0.3])
def test_the_last_attempt_has_a_single_site_and_none_is_made_twice(
    last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tried([0.15, 0.3, last], monkeypatch) == [6, 2, 1]


@pytest.mark.parametrize(
    ("answers", "widths", "taken"),
    [
        ([0.05], [0], 0),
        ([(0.05, 0.0005)], [0], 0),  # wider ranges would hardly gain anything
        ([(0.05, 0.02), (0.04, 0.0)], [0, 1], 1),
        ([(0.05, 0.02), (0.06, 0.01)], [0, 1], 0),  # and still wider ones are not asked
        ([(0.05, 0.02), (0.04, 0.01), (0.03, 0.01)], [0, 1, 2], 2),
    ],
)
def test_ranges_get_wider_while_what_they_cut_off_costs_more_than_coarser_steps(
    answers: list[float | tuple[float, float]], widths: list[int], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, report = searched(answers, monkeypatch, wider=2)
    assert planted.widths == widths and report.detail["width"] == taken


@pytest.mark.parametrize(
    ("answers", "worst", "widths", "taken"),
    [
        ([0.05], [0.1], [0], 0),  # they stay within the limit as it is
        ([0.05, 0.06], [0.3, 0.09], [0, 1], 1),
        ([0.05, 0.06, 0.08], [0.3, 0.2, 0.15], [0, 1, 2], 2),
        ([0.05, 0.06, 0.11], [0.3, 0.2], [0, 1, 2], 1),  # the steps are too coarse then
        ([0.05, 0.06], [0.3, 0.3], [0, 1], 0),  # nothing is gained
    ],
)
@pytest.mark.parametrize("all_fit", [True, False])
def test_room_that_the_limit_leaves_is_for_samples_far_beyond_all_others(
    answers: list[float],
    worst: list[float],
    widths: list[int],
    taken: int,
    all_fit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A regnet had 0.002 of 0.02 on what it saw, and one image in a thousand took it to 0.023 on others."""
    before = [] if all_fit else [0.15, 0.3]
    planted, report = searched([*before, *answers], monkeypatch, wider=2, worst=worst)
    assert planted.widths == [0] * len(before) + widths and report.detail["width"] == taken
    assert planted.tried == [6] * len(widths) if all_fit else planted.tried[2:] == [1] * len(widths)


def test_sites_are_chosen_with_the_ranges_that_were_best_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[float | tuple[float, float]] = [(0.2, 0.1), (0.15, 0.0), 0.07, 0.09]
    planted, report = searched(answers, monkeypatch, wider=2)
    assert planted.widths == [0, 1, 1, 1] and report.detail["width"] == 1
    assert planted.tried == [6, 6, 2, 4]


def test_a_pass_that_is_run_again_does_not_try_ranges_again(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted([(0.08, 0.04), 0.05, 0.05])
    monkeypatch.setattr(choice, "Judge", lambda *_: planted)
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    ctx = Context(registry.find_target("cpu"), max_error=ALLOWED)
    for _ in range(2):
        report = choice.within(model.clone(), ctx, planted.scheme(0, model), [planted.scheme(1, model)])
        assert report.detail["width"] == 1
    assert planted.widths == [0, 1, 1]


def test_the_reason_for_a_site_that_saves_no_time_is_not_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times within noise of each other keep a site among the others; only 4 bits were faster there."""
    planted = Planted([0.15])
    monkeypatch.setattr(choice, "Judge", lambda *_: planted)
    monkeypatch.setattr(choice, "_measured", lambda *_: ([Group((n,), 1e-6) for n in NAMES], [None] * 6))
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    )
    scheme = replace(planted.scheme(0, model), gains=dict.fromkeys(NAMES, -1e-6))
    report = choice.within(model, Context(registry.find_target("cpu"), max_error=ALLOWED), scheme)
    assert [skip.reason for skip in report.skipped] == ["left in float: 8 bits save no time here"] * 6
