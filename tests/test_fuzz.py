"""Random graphs through random pipelines: a fixed few of them, and every failure that was ever saved.

``make fuzz`` runs the same for hours, and saves what fails in ``fuzz_cases``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from fuzz import check, generate, search, usable
from fuzz.case import from_text, to_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.passes import simplify
from optc.passes.simplify.editor import Editor, Rule
from optc.trail import Trail

CASES = sorted((Path(__file__).parent / "fuzz_cases").glob("*.txt"))
RECIPES = st.builds(generate.Recipe, seed=st.integers(0, 10**6), moves=st.integers(1, 14))
FIXED = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@FIXED
@given(RECIPES)
def test_random_graphs_keep_their_results(recipe: generate.Recipe) -> None:
    case = generate.case(recipe)
    if case is None:
        return
    try:
        finding = check.check(case)
    except check.Invalid:
        return
    assert finding is None, f"{finding}\n{to_text(case)}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_once_failed_stays_right(path: Path) -> None:
    assert check.check(from_text(path.read_text(encoding="utf-8"))) is None


def test_feeds_that_runtime_takes_and_onnx_does_not_mean_nothing() -> None:
    """Of the empty parts of a Concat, ONNX Runtime does not compare the sizes."""
    text = (
        "pipeline: simplify\nconstant none: float32[2,2,0]\n"
        "feed 0 x: float32[2,2,0]\nfeed 1 x: float32[3,3,0]\n---\n"
        '<ir_version: 10, opset_import: ["" : 18]>\n'
        "fuzz (float[d,d,0] x) => (float[e,f,g] y) { y = Concat <axis = 2> (x, none) }\n"
    )
    case = from_text(text)
    assert usable.usable(case) == [case.feeds[0]]
    with pytest.raises(check.Invalid):
        usable.usable(replace(case, feeds=case.feeds[1:]))


def test_a_model_that_runs_with_more_outputs_only_means_nothing() -> None:
    """ONNX Runtime removes a second Cast that a branch still reads, unless it is an output."""
    text = (
        "pipeline: simplify\nconstant taken: bool[] 1\nfeed 0 x: float32[2] 1 2\n---\n"
        '<ir_version: 10, opset_import: ["" : 21]>\n'
        "fuzz (float[2] x) => (float[4] y, float[2] z) {\n"
        "  a = Cast <to = 1> (x) b = Cast <to = 1> (a) y = Concat <axis = 0> (b, b)\n"
        "  z = If (taken) <then_branch = t () => (float[2] p) { p = Identity (b) },\n"
        "                  else_branch = e () => (float[2] q) { q = Neg (x) }>\n}\n"
    )
    with pytest.raises(check.Invalid):
        usable.usable(from_text(text))


def test_a_case_survives_as_text() -> None:
    found = 0
    for seed in range(12):
        case = generate.case(generate.Recipe(seed))
        if case is None:
            continue
        again = from_text(to_text(case))
        assert to_text(again) == to_text(case)
        assert again.pipeline == case.pipeline and again.lowerings == case.lowerings
        for one, other in zip(case.feeds, again.feeds, strict=True):
            for name in one:
                assert one[name].dtype == other[name].dtype
                np.testing.assert_array_equal(one[name], other[name])
        found += 1
    assert found > 6


def test_the_same_seed_is_the_same_case() -> None:
    one, other = (generate.case(generate.Recipe(3)) for _ in range(2))
    assert one is not None and other is not None
    assert to_text(one) == to_text(other)


def test_a_wrong_rule_is_found_and_its_case_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule drops the sign: what the fuzzer is for, so it must not miss it."""

    def drop(node: ir.Node, editor: Editor) -> bool:
        return node.inputs[0] is not None and editor.replace(node.outputs[0], node.inputs[0])

    monkeypatch.setattr(simplify, "_RULES", (*simplify._RULES, Rule("sign dropped", ("Neg",), drop)))
    text = """pipeline: simplify, fuse
feed 0 x: float32[2] 1 -2
---
<ir_version: 10, opset_import: ["" : 20]>
g (float[2] x) => (float[?] y, float[?] z) {
   a = Relu (x)
   b = Neg (x)
   c = Exp (b)
   y = Add (a, c)
   z = Abs (y)
}
"""
    case = from_text(text)
    finding = check.check(case)
    assert finding is not None
    assert (finding.kind, finding.stage) == ("wrong rewrite", "simplify")
    monkeypatch.setattr(check, "Trail", lambda watchers: Trail())  # the results alone say so, too
    finding = check.check(case)
    assert finding is not None
    assert (finding.kind, finding.stage) == ("wrong answer", "simplify (pass 1)")
    small = search.shrunk(case, finding)
    assert [node.op_type for node in small.model.graph.node] == ["Neg"]
    assert small.pipeline == "simplify"
