"""Options that a scheme does not look at are told, and only those."""

from __future__ import annotations

import numpy as np
import pytest
from linears import parse, run

RNG = np.random.default_rng(0)
W = RNG.standard_normal((64, 32)).astype(np.float32)
SAMPLES = [{"x": RNG.standard_normal((4, 64)).astype(np.float32)} for _ in range(3)]


def told(options: str) -> list[str]:
    """The options that the report says have no effect."""
    model = parse("(float[4,64] x) => (float[4,32] y) { y = MatMul(x, w) }", w=W)
    _, [record] = run(f"quantize{{{options}}}", model, SAMPLES)
    return [skip.node for skip in record.report.skipped if "has no effect on" in skip.reason]


@pytest.mark.parametrize(
    ("scheme", "without"),
    [
        ("int8-weight", ["granularity", "calibrate", "smooth", "bias-correct"]),
        ("int4-weight", ["granularity", "calibrate", "smooth", "bias-correct"]),
        ("int8-dynamic", ["group", "calibrate", "method"]),
        ("int8-static", ["group", "method"]),
        ("auto", ["calibrate"]),  # dynamic here, and weights in blocks where those are faster
    ],
)
def test_an_option_of_other_schemes_is_told(scheme: str, without: list[str]) -> None:
    every = "granularity=tensor, group=16, calibrate=minmax, method=hqq, smooth=none, bias-correct=false"
    assert told(f"scheme={scheme}, {every}") == without


def test_groups_of_rows_are_told_where_weights_are_not_alone() -> None:
    assert told("scheme=int8-dynamic, granularity=group") == ["granularity"]
    assert told("scheme=int4-weight, granularity=group") == []


@pytest.mark.parametrize("scheme", ["int8-weight", "int8-dynamic", "int8-static", "auto"])
def test_nothing_is_told_of_defaults(scheme: str) -> None:
    assert told(f"scheme={scheme}") == []
