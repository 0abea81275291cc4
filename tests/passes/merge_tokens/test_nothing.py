"""merge-tokens asked for nothing leaves the graph as it is, whatever the method and wherever it stands."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest
import torch
from capture_once import capture_once
from vision import pixels, vit

import optc
from optc import registry
from optc.passbase import Context
from optc.pipeline import Pipeline

METHODS = ("tome", "prune", "pyramid", "transform")
NOTHING = ("r=0", "keep=1", 'schedule="0,0"')
SAID = "no tokens are to be removed: the options ask for none"


def test_no_byte_of_the_graph_changes() -> None:
    context = Context(registry.find_target("cpu"))
    for pipeline in ("simplify", "simplify, fuse"):
        model = capture_once(vit(), (pixels(2),), ({0: torch.export.Dim("batch")},)).model
        model, _ = Pipeline.parse(pipeline).run(model, context)
        before = ir.to_proto(model).SerializeToString(deterministic=True)
        for options in (f"method={method}, {amount}" for method in METHODS for amount in NOTHING):
            [step] = Pipeline.parse(f"merge-tokens{{{options}}}").passes
            report = step.run(model, context)
            assert not report.changed and [skip.reason for skip in report.skipped] == [SAID]
            assert ir.to_proto(model).SerializeToString(deterministic=True) == before, options


def shown(artifact: Any) -> list[tuple[str, ...]]:
    """The nodes with what they read, where values go by the number of the node that makes them."""
    numbers = {
        value: str(number) for number, node in enumerate(artifact.model.graph) for value in node.outputs
    }
    return [
        (node.op_type, *(numbers.get(value, "given") for value in node.inputs))
        for node in artifact.model.graph
    ]


@pytest.mark.parametrize("around", ["simplify, %sfuse", "simplify, fuse, %s"], ids=["before", "behind"])
def test_the_program_is_the_one_without_it(around: str) -> None:
    x = pixels(1)
    without = optc.compile(capture_once(vit(), (x,)), pipeline=(around % "").strip(", "))
    found = optc.compile(capture_once(vit(), (x,)), pipeline=(around % "merge-tokens{r=0}, ").strip(", "))
    assert shown(found) == shown(without)
    assert torch.equal(found(x).logits, without(x).logits)
    [row] = [row for row in found.report["passes"] if row["name"] == "merge-tokens"]
    assert not row["changed"] and row["reverted"] is None
    assert row["skipped"] == [{"node": "model", "reason": SAID}]
