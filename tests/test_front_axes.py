"""Reductions over a negative axis of what is empty, which ONNX Runtime leaves as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser

import optc
from optc import oracle
from optc.capture import capture
from optc.front_axes import counts_from_back
from optc.torch_backend import reset_stats, stats

EMPTY = [(0, 3), (3, 0), (0, 0)]


def reduction(op: str, version: int = 18) -> onnx.ModelProto:
    as_input = version >= 18 or (op == "ReduceSum" and version >= 13)
    axes, attribute = ("axes", "") if as_input else ("", ", axes = [-1]")
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {version}]>
        g (float[n, m] x) => (float[n] y, float[n, k] z) {{
            axes = Constant <value = int64[1] {{-1}}> ()
            y = {op} <keepdims = 0{attribute}> ({", ".join(filter(None, ["x", axes]))})
            z = {op} <keepdims = 1{attribute}> ({", ".join(filter(None, ["x", axes]))})
        }}"""
    )


@pytest.mark.parametrize("version", [13, 18])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"])
def test_artifacts_and_the_oracle(op: str, version: int, tmp_path: Path) -> None:
    model = reduction(op, version)
    artifact = optc.compile(model, gate=False)
    for rows, columns in EMPTY:
        feeds = {"x": np.zeros((rows, columns), np.float32)}
        for results in (artifact.run(feeds), oracle.run(capture(model).model, feeds)):
            assert [results[name].shape for name in "yz"] == [(rows,), (rows, 1)]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_places(op: str) -> None:
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> g (float[n, 3] x) => (int64[n] y) {{
            y = {op} <axis = -1, keepdims = 0> (x)
        }}"""
    )
    artifact = optc.compile(model, gate=False)
    assert artifact.run({"x": np.zeros((0, 3), np.float32)})["y"].shape == (0,)
    full = np.array([[1, 3, 2], [5, 4, 6]], np.float32)
    assert artifact.run({"x": full})["y"].tolist() == getattr(full, op.lower())(axis=-1).tolist()


def test_reductions_inside_of_branches() -> None:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> g (float[n, 3] x, bool c) => (float[n] y) {
            y = If (c) <
                then_branch = a () => (float[n] p) {
                    axes = Constant <value = int64[1] {-1}> ()
                    p = ReduceSum <keepdims = 0> (x, axes)
                },
                else_branch = b () => (float[n] q) {
                    more = Constant <value = int64[1] {-1}> ()
                    q = ReduceMax <keepdims = 0> (x, more)
                }
            >
        }"""
    )
    artifact = optc.compile(model, gate=False)
    for chosen in (True, False):
        feeds = {"x": np.zeros((0, 3), np.float32), "c": np.array(chosen)}
        assert artifact.run(feeds)["y"].shape == (0,)


def test_the_model_of_a_session_is_left_alone() -> None:
    captured = capture(reduction("ReduceSum"))
    oracle.run(captured.model, {"x": np.ones((2, 3), np.float32)})
    assert counts_from_back(captured.model)


@pytest.mark.parametrize("dynamic", [True, False])
def test_torch_compile(dynamic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTC_CACHE_DIR", "")
    torch._dynamo.reset()
    reset_stats()

    def reduced(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.sum(-1), x.sum(-2, keepdim=True), x.logsumexp(-2), x.norm(dim=-1)

    compiled = torch.compile(reduced, backend="optc", dynamic=dynamic)
    with torch.no_grad():
        for sizes in ((4, 5), (0, 5), (3, 0)):
            given = torch.zeros(sizes)
            torch.testing.assert_close(compiled(given), reduced(given), equal_nan=True)
    assert stats().fallbacks == 0, stats().reasons
