"""The trail of rewrites: what is numbered, that a limit ends it at any point, and what watchers are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from optc import oracle, registry
from optc.passbase import Context
from optc.pipeline import Pipeline
from optc.trail import Rewrite, Trail

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (float[2,3] x) => (float[2,3] y, float[3,2] z)
<float[3] w = {1.0, 2.0, 3.0}, float[3] v = {1.0, 2.0, 3.0}, float one = {1.0}, float s = {1.702}> {
    two = Add(one, one)
    a = Mul(x, one)
    b = Transpose<perm=[1,0]>(a)
    c = Transpose<perm=[1,0]>(b)
    d = Add(c, w)
    e = Add(c, v)
    f = Mul(d, e)
    g1 = Mul(f, s)
    h = Sigmoid(g1)
    q = Mul(f, h)
    y = Div(q, two)
    z = Transpose<perm=[1,0]>(q)
}"""


class Watching:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, bool]] = []
        self.pairs: list[tuple[str, str]] = []
        self.edited: list[str] = []
        self.seen: list[Rewrite] = []

    def starting(self, name: str, model: ir.Model, *, exact: bool) -> None:
        self.started.append((name, exact))

    def editing(self, node: ir.Node) -> None:
        self.edited.append(node.op_type)

    def replacing(self, old: Sequence[ir.Value], new: Sequence[ir.Value]) -> None:
        for one, other in zip(old, new, strict=True):
            assert one is not other
            producer = one.producer()
            assert producer is None or producer.graph is not None
            self.pairs.append((str(one.name), str(other.name)))

    def applied(self, rewrite: Rewrite) -> None:
        self.seen.append(rewrite)


def _run(text: str, trail: Trail) -> ir.Model:
    ctx = Context(target=registry.find_target("cpu"), trail=trail)
    model, _ = Pipeline.parse(text).run(ir.from_onnx_text(TEXT), ctx)
    return model


@pytest.mark.parametrize("pipeline", ["simplify", "fuse", "simplify, fuse"])
def test_every_prefix_of_the_rewrites_is_a_right_model(pipeline: str) -> None:
    every = Trail()
    _run(pipeline, every)
    assert every.rewrites
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3) / 4}
    expected = oracle.run(ir.from_onnx_text(TEXT), feeds)
    for limit in range(len(every.rewrites) + 1):
        some = Trail(limit=limit)
        model = _run(pipeline, some)
        assert some.rewrites == every.rewrites[:limit]
        assert oracle.difference(expected, oracle.run(model, feeds)).exact


def test_nothing_is_rewritten_with_a_limit_of_zero() -> None:
    model = _run("simplify, fuse", Trail(limit=0))
    assert [node.op_type for node in model.graph] == [n.op_type for n in ir.from_onnx_text(TEXT).graph]


def test_a_watcher_sees_old_and_new_while_both_are_in_the_graph() -> None:
    watching = Watching()
    trail = Trail(watchers=(watching,))
    _run("simplify, fuse", trail)
    assert watching.started == [("simplify", True), ("fuse", True)]
    assert watching.seen == trail.rewrites
    assert [rewrite.number for rewrite in trail.rewrites] == list(range(1, len(trail.rewrites) + 1))
    names = {rewrite.name for rewrite in trail.rewrites}
    assert {"equal weights merged", "equal nodes merged", "constant folded", "gelu"} <= names
    assert ("v", "w") in watching.pairs
    fused = next(rewrite for rewrite in trail.rewrites if rewrite.name == "gelu")
    assert sorted(node.split()[0] for node in fused.nodes) == ["Mul", "Mul", "Sigmoid"]


def test_sites_of_a_pass_without_patterns_count_too() -> None:
    nodes = list(ir.from_onnx_text(TEXT).graph)
    trail = Trail(limit=2)
    assert list(trail.each("halved", nodes, lambda node: node)) == nodes[:2]
    assert [rewrite.name for rewrite in trail.rewrites] == ["halved", "halved"]
