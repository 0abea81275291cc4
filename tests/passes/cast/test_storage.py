"""Weights in half precision in the file: half the size, the same program once it is loaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import registry
from optc.errors import UserError
from optc.passbase import Context
from optc.pipeline import Pipeline
from optc.session import open_session, run_session

RNG = np.random.default_rng(0)
BODY = """<ir_version: 10, opset_import: ["": 20]>
g (float[N,64] x) => (float[N,64] y) { a = MatMul(x, w1)  b = Add(a, b1)  r = Relu(b)  y = MatMul(r, w2) }"""


def weights() -> dict[str, np.ndarray]:
    shapes, rng = {"w1": (64, 256), "w2": (256, 64), "b1": (256,)}, np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(np.float32) / 8 for name, shape in shapes.items()}


def model(body: str = BODY, **arrays: np.ndarray) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(body)
    for name, array in (weights() | arrays).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def compiled(proto: onnx.ModelProto, pipeline: str) -> optc.Artifact:
    return optc.compile(proto, inputs={"x": X}, pipeline=pipeline)


X = RNG.normal(size=(3, 64)).astype(np.float32)


@pytest.mark.parametrize(("to", "error"), [("fp16", 2.0**-10), ("bf16", 2.0**-7)])
@pytest.mark.parametrize("order", ["simplify, cast{to=%s}, fuse", "simplify, fuse, cast{to=%s}"])
def test_the_file_halves_and_the_result_stays(to: str, error: float, order: str, tmp_path: Path) -> None:
    proto = model()
    plain = compiled(proto, "simplify, fuse")
    half = compiled(proto, order % to)
    expected, found = plain.run({"x": X})["y"], half.run({"x": X})["y"]
    assert 0.0 < np.linalg.norm(found - expected) <= error * np.linalg.norm(expected)
    assert half.report["final"]["error"]["rel_l2"] <= error
    sizes = [_size(artifact, tmp_path / name) for artifact, name in ((plain, "plain"), (half, "half"))]
    assert sizes[1] < 0.55 * sizes[0]


def _size(artifact: optc.Artifact, folder: Path) -> int:
    artifact.save(folder)
    return sum(file.stat().st_size for file in folder.glob("model.onnx*"))


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_the_runtime_folds_the_casts_when_it_loads(to: str, tmp_path: Path) -> None:
    compiled(model(), f"simplify, cast{{to={to}}}, fuse").save(tmp_path / "half")
    written = onnx.load(tmp_path / "half" / "model.onnx")
    assert Counter(node.op_type for node in written.graph.node)["Cast"] == 2
    open_session(tmp_path / "half" / "model.onnx", options={"optimized_model_filepath": f"{tmp_path}/o.onnx"})
    assert "Cast" not in {node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node}


def test_a_second_run_changes_nothing() -> None:
    made, ctx = ir.from_proto(model()), Context(target=registry.find_target("cpu"))
    assert Pipeline.parse("cast").run(made, ctx)[1][0].report.changed
    assert not Pipeline.parse("cast").run(made, ctx)[1][0].report.changed


def test_what_a_type_cannot_hold_stays_with_the_reason() -> None:
    w1, w2 = weights()["w1"], weights()["w2"]
    w1[0, 0] = 1e5
    made, ctx = ir.from_proto(model(w1=w1, w2=w2 * 1e-8)), Context(target=registry.find_target("cpu"))
    _, [record] = Pipeline.parse("cast{to=fp16}").run(made, ctx)
    reasons = {skip.node: skip.reason for skip in record.report.skipped}
    assert "cannot hold" in reasons["w1"] and "would change it" in reasons["w2"]
    assert not record.report.changed
    _, [record] = Pipeline.parse("cast{to=bf16}").run(made, ctx)
    assert record.report.matched == {"weight stored in bfloat16": 2}


def test_weights_are_kept_by_name() -> None:
    artifact = compiled(model(), 'simplify, cast{keep="w1"}, fuse')
    [entry] = [entry for entry in artifact.report["passes"] if entry["name"] == "cast"]
    assert entry["matched"] == {"weight stored in float16": 1}
    assert "kept by 'w1'" in str(entry["skipped"])


@pytest.mark.parametrize(
    "body", [BODY, BODY.replace("MatMul(x, w1)  b = Add(a, b1)", "Gemm(x, w1, b1)  b = Relu(a)")]
)
def test_weights_are_kept_by_the_name_of_the_bias_beside_them(body: str) -> None:
    """What an exporter folds (a transposed weight) gets a name that says nothing; the bias keeps its own."""
    made, ctx = ir.from_proto(model(body)), Context(target=registry.find_target("cpu"))
    _, [record] = Pipeline.parse('cast{keep="^b1$"}').run(made, ctx)
    assert {skip.node for skip in record.report.skipped} == {"w1"}
    assert record.report.matched == {"weight stored in float16": 1}


def test_a_name_that_nothing_has_is_told() -> None:
    artifact = compiled(model(), 'simplify, cast{keep="w11"}, fuse')
    [entry] = [entry for entry in artifact.report["passes"] if entry["name"] == "cast"]
    assert entry["matched"] == {"weight stored in float16": 2}
    assert "no node or weight that would change has a name with 'w11'" in str(entry["skipped"])


def test_a_bad_expression_is_refused() -> None:
    with pytest.raises(UserError, match="not a regular expression"):
        compiled(model(), 'cast{keep="("}')


def test_quantize_behind_it_sees_constants() -> None:
    artifact = compiled(model(), "simplify, cast, quantize{scheme=int8-dynamic}, fuse")
    [entry] = [entry for entry in artifact.report["passes"] if entry["name"] == "quantize"]
    assert entry["matched"]["int8 dynamic site"] == 2


def test_int8_models_keep_their_scales() -> None:
    rows = {"x": RNG.normal(size=(12, 64)).astype(np.float32)}
    pipeline = "simplify, quantize{scheme=int8-static}, cast, fuse"
    both = optc.compile(model(), inputs={"x": X}, pipeline=pipeline, calibration=rows)
    alone = optc.compile(model(), inputs={"x": X}, pipeline=pipeline.replace("cast, ", ""), calibration=rows)
    assert np.array_equal(both.run({"x": X})["y"], alone.run({"x": X})["y"])


def test_a_stored_model_runs_without_optimization() -> None:
    """The Cast is plain ONNX: the reference semantics are those of the optimized program."""
    made, ctx = ir.from_proto(model()), Context(target=registry.find_target("cpu"))
    done, _ = Pipeline.parse("cast, legalize").run(made, ctx)
    results = [run_session(open_session(done, optimize=o), {"x": X})["y"] for o in (False, True)]
    assert np.allclose(*results, rtol=1e-5, atol=1e-6)
