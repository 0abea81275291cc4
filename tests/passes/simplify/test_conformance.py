"""Every conformance model that plain ONNX Runtime gets right is still right after simplify."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx_ir as ir
import pytest
from simplifying import TARGET

from optc.passbase import Context
from optc.passes.simplify import Simplify

sys.path.insert(0, str(Path(__file__).parents[2]))
from backend_suite import KINDS, Case, iter_cases, mismatch, open_plain, plain_ort, run_session  # noqa: E402


def changed(case: Case) -> str | None:
    """What simplify did to the case, or None."""
    expected = plain_ort(case)
    if expected is None:
        return None
    model = ir.from_proto(case.proto)
    Simplify().run(model, Context(target=TARGET))
    session = open_plain(ir.to_proto(model).SerializeToString())
    for wanted, (feeds, _) in zip(expected, case.data_sets, strict=True):
        found = run_session(session, feeds)
        for index, (before, after) in enumerate(zip(wanted, found, strict=True)):
            if reason := mismatch(before, after, 1e-5, 1e-6):
                return f"{case.name}, output {index}: {reason}"
    again = Simplify().run(model, Context(target=TARGET))
    return f"{case.name}: a second run still changes {dict(again.matched)}" if again.changed else None


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_suite(kind: str) -> None:
    assert [reason for case in iter_cases((kind,)) if (reason := changed(case))] == []
