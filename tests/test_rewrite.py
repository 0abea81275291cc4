"""The pattern driver: outlining keeps meaning and names, bodies are shared, misses have reasons."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from optc import match, oracle, rewrite
from optc.errors import OptcError

TWO_BLOCKS = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x, float[3] b) => (float[2,3] y) {
    h1 = Add(x, b)
    r1 = Relu(h1)
    h2 = Add(r1, b)
    y = Relu(h2)
}"""


class AddRelu(rewrite.Pattern):
    name: ClassVar[str] = "add-relu"
    family: ClassVar[str] = "demo"
    anchors: ClassVar[frozenset[str]] = frozenset({"Relu"})

    def match(self, node: ir.Node, model: ir.Model) -> rewrite.Match | None:
        add = match.producer(node.inputs[0], "Add")
        if add is None:
            return None
        if match.rank(add.inputs[1]) != 1:
            raise rewrite.NearMiss("the bias is not a vector")
        body = "(x, b) => (y) { h = Add(x, b) y = Relu(h) }"
        return rewrite.Match(
            "AddRelu", list(add.inputs), [node.outputs[0]], body, {"alpha": 1.5}, [add, node]
        )


def _model(text: str = TWO_BLOCKS) -> ir.Model:
    return ir.from_onnx_text(text)


def _feeds() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(2, 3)).astype("f"), "b": generator.normal(size=3).astype("f")}


def test_outline_replaces_the_match_by_calls_of_one_function() -> None:
    model = _model()
    done = rewrite.apply([AddRelu()], model)
    assert done.matched == {"add-relu": 2}
    assert [node.op_type for node in model.graph] == ["AddRelu", "AddRelu"]
    assert [rewrite.kind(node) for node in model.graph] == ["AddRelu", "AddRelu"]
    assert len(model.functions) == 1
    assert [o.name for o in model.graph.outputs] == ["y"]


def test_a_fused_model_runs_in_a_stock_runtime_and_inlines_back() -> None:
    model, expected = _model(), oracle.run(_model(), _feeds())
    rewrite.apply([AddRelu()], model)
    np.testing.assert_array_equal(oracle.run(model, _feeds())["y"], expected["y"])
    assert rewrite.inline(model)
    assert [node.op_type for node in model.graph] == ["Add", "Relu", "Add", "Relu"]
    assert not model.functions
    assert "optc" not in model.opset_imports
    np.testing.assert_array_equal(oracle.run(model, _feeds())["y"], expected["y"])
    assert not rewrite.inline(model)


def test_different_bodies_get_different_functions_of_the_same_kind() -> None:
    model = _model()
    first, second = [n for n in model.graph if n.op_type == "Relu"]
    for node, body in ((first, "(h) => (y) { y = Relu(h) }"), (second, "(h) => (y) { y = Max(h) }")):
        rewrite.outline(model, rewrite.Match("Act", list(node.inputs), [node.outputs[0]], body, {}, [node]))
    calls = [n for n in model.graph if n.domain == "optc"]
    assert [n.op_type for n in calls] == ["Act", "Act_2"]
    assert [rewrite.kind(n) for n in calls] == ["Act", "Act"]


def test_a_near_miss_is_reported_with_its_reason() -> None:
    model = _model(TWO_BLOCKS.replace("float[3] b", "float[2,3] b"))
    done = rewrite.apply([AddRelu()], model)
    assert not done.matched
    assert {skip.reason for skip in done.skipped} == {"add-relu not fused: the bias is not a vector"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = Relu(h)\n z = Neg(h)", "has another reader"),
        ("y = Relu(h)\n z = Identity(y)", None),
    ],
)
def test_an_intermediate_with_another_reader_is_not_fused(text: str, reason: str | None) -> None:
    model = _model(
        '<ir_version: 10, opset_import: ["": 20]> '
        "g (float[2,3] x, float[3] b) => (float[2,3] y, float[2,3] z)"
        f" {{ h = Add(x, b)\n {text} }}"
    )
    done = rewrite.apply([AddRelu()], model)
    assert bool(done.matched) == (reason is None)
    if reason is not None:
        assert reason in done.skipped[0].reason


def test_an_intermediate_that_is_a_graph_output_is_not_fused() -> None:
    model = _model(
        '<ir_version: 10, opset_import: ["": 20]> '
        "g (float[2,3] x, float[3] b) => (float[2,3] y, float[2,3] h)"
        " { h = Add(x, b)\n y = Relu(h) }"
    )
    done = rewrite.apply([AddRelu()], model)
    assert "is an output of the graph" in done.skipped[0].reason


def test_patterns_reach_into_subgraphs() -> None:
    model = _model(
        """<ir_version: 10, opset_import: ["": 20]>
        g (bool c, float[2,3] x, float[3] b) => (float[2,3] y) {
            y = If (c) <
                then_branch = t () => (float[2,3] p) { h = Add(x, b) p = Relu(h) },
                else_branch = e () => (float[2,3] q) { q = Identity(x) }
            >
        }"""
    )
    assert rewrite.apply([AddRelu()], model).matched == {"add-relu": 1}
    feeds = {"c": np.array(True), **_feeds()}
    np.testing.assert_array_equal(oracle.run(model, feeds)["y"], np.maximum(feeds["x"] + feeds["b"], 0))


def test_errors_share_a_base() -> None:
    assert issubclass(rewrite.NearMiss, Exception) and not issubclass(rewrite.NearMiss, OptcError)
