"""Errors of single sites, and of groups where there are too many of them."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
import pytest

from optc.passes.quantize.choice.sensitivity import sensitivities

MODEL = ir.from_onnx_text(
    '<ir_version: 10, opset_import: ["": 21]>\ng (float[1] x) => (float[1] y) { y = Neg(x) }'
)


class Made:
    """Squared errors that add up; counts what is asked for."""

    def __init__(self, squared: dict[str, float]) -> None:
        self.squared, self.asked = squared, list[tuple[str, ...]]()

    def prepared(self, names: Collection[str]) -> ir.Model:
        self.asked.append(tuple(names))
        return MODEL

    def error(self, model: ir.Model) -> float:
        return sum(self.squared[name] for name in self.asked[-1])


def test_few_sites_are_taken_one_by_one() -> None:
    made = Made({"a": 1.0, "b": 4.0, "c": 0.0})
    groups = sensitivities(
        ["a", "b", "c"], made.prepared, made.error, runs=3, progress=lambda items, _: items
    )
    assert [(group.sites, group.squared) for group in groups] == [(("a",), 1.0), (("b",), 4.0), (("c",), 0.0)]


@pytest.mark.parametrize("bad", [0, 77, 199])
def test_of_many_sites_the_worst_is_found_in_few_runs(bad: int) -> None:
    names = [f"s{i}" for i in range(200)]
    made = Made({name: 100.0 if i == bad else 1e-3 for i, name in enumerate(names)})
    seen: list[int] = []

    def progress(items: range, text: str) -> range:  # type: ignore[type-arg]
        seen.append(len(items))
        return items

    groups = sensitivities(names, made.prepared, made.error, runs=24, progress=progress)  # type: ignore[arg-type]
    assert len(made.asked) <= 24 and seen == [24]
    assert [name for group in groups for name in group.sites] == names
    [worst] = [group for group in groups if group.squared > 1.0]
    assert worst.sites == (f"s{bad}",)
