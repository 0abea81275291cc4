"""What simplify knows of contents: whole numbers only, since floats round and divide otherwise."""

from __future__ import annotations

import onnx_ir as ir

from optc.passes.simplify.facts import Facts

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[b, c, 4] x, int64[2] fed) => (int64[3] sizes) <int64[2] given = {7, 8}, int64[2, 1] square = {1, 2}>
{
    sizes = Shape (x)
    floats = Cast <to = 1> (sizes)
    small = Cast <to = 3> (sizes)
    back = Cast <to = 7> (floats)
}"""


def test_contents_are_whole_numbers_of_rank_one() -> None:
    model = ir.from_onnx_text(TEXT)
    facts = Facts(model, {})
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert [str(size) for size in facts.contents(values["sizes"]) or ()] == ["b", "c", "4"]
    assert facts.ints(values["sizes"]) is None
    assert [facts.contents(values[name]) for name in ("floats", "small", "back")] == [None, None, None]
    assert facts.ints(model.graph.initializers["given"]) == [7, 8]
    assert facts.contents(model.graph.initializers["square"]) is None
    assert facts.contents(model.graph.inputs[1]) is None
