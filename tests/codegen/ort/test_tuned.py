"""An artifact says which CPU it was made for, and another CPU says what that means."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import optc
from optc import artifact, cpu
from optc.codegen.ort import tuned
from optc.inspect import tuned as inspected

VNNI = frozenset({"avx2", "avx512f", "avx512_vnni"})
OLD = frozenset({"avx2"})
WEIGHT = np.random.default_rng(0).standard_normal((96, 80)).astype(np.float32)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def become(features: frozenset[str], architecture: str = "x86_64") -> None:
        monkeypatch.setattr(cpu, "features", lambda: features)
        monkeypatch.setattr(cpu, "architecture", lambda: architecture)

    return become


def compiled(folder: Path, pipeline: str) -> Path:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[3,96] x) => (float[3,80] y) { y = MatMul(x, w) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    optc.compile(ir.from_proto(proto), pipeline=pipeline, output=folder / "artifact")
    return folder / "artifact"


@pytest.mark.parametrize(
    ("features", "pipeline", "bits", "largest"),
    [
        (VNNI, "quantize{scheme=int8-dynamic}, fuse", 8, 128),
        (OLD, "quantize{scheme=int8-dynamic}, fuse", 7, 64),
        (VNNI, "simplify, fuse", 0, None),
        (VNNI, "quantize{scheme=int8-weight}, fuse", 0, None),
    ],
    ids=["VNNI", "no VNNI", "float", "weights only"],
)
def test_the_manifest_has_the_machine_and_the_bits_that_the_weights_have(
    features: frozenset[str], pipeline: str, bits: int, largest: int | None, machine: Any, tmp_path: Path
) -> None:
    machine(features)
    path = compiled(tmp_path, pipeline)
    found = json.loads((path / "manifest.json").read_text())["machine"]
    assert found == {"architecture": "x86_64", "features": sorted(features), "int8_weight_bits": bits}
    codes = [v.const_value.numpy() for v in ir.load(path / "model.onnx").graph.initializers.values()]
    int8 = [np.abs(array.astype(int)).max() for array in codes if array.dtype == np.int8 and array.ndim == 2]
    assert int8 == ([] if largest is None else [largest])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artifact.load(path)  # the machine that made it is the one that it was made for


@pytest.mark.parametrize(
    ("made", "here", "pipeline", "told"),
    [
        (VNNI, (OLD, "x86_64"), "quantize{scheme=int8-dynamic}, fuse", "saturate: results may be wrong"),
        (VNNI, (OLD, "x86_64"), "simplify, fuse", "avx512_vnni, avx512f, which this one lacks"),
        (VNNI, (frozenset(), "aarch64"), "simplify, fuse", "tuned for x86_64, and this machine is aarch64"),
        (OLD, (VNNI, "x86_64"), "quantize{scheme=int8-dynamic}, fuse", "here they could have 8"),
    ],
    ids=["saturating", "fewer extensions", "another architecture", "7 bits where 8 fit"],
)
def test_another_machine_is_told_what_differs(
    made: frozenset[str], here: Any, pipeline: str, told: str, machine: Any, tmp_path: Path
) -> None:
    machine(made)
    path = compiled(tmp_path, pipeline)
    machine(*here)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        artifact.load(path)
    assert any(told in str(warning.message) for warning in heard)
    assert told in " ".join(inspected(path)["here"])


def test_an_artifact_that_does_not_say_loads_without_a_word(tmp_path: Path) -> None:
    path = compiled(tmp_path, "simplify")
    data = json.loads((path / "manifest.json").read_text())
    del data["machine"]
    (path / "manifest.json").write_text(json.dumps(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert artifact.load(path).run({"x": np.ones((3, 96), np.float32)})["y"].shape == (3, 80)
    assert inspected(path) == {"machine": {}, "here": []}


def test_tables_of_embeddings_are_no_factors_of_products() -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (int64[N] x) => (int8[N,4] y) { y = Gather(t, x) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full((9, 4), 100, np.int8), "t"))
    assert tuned.tuned_for(ir.from_proto(proto))["int8_weight_bits"] == 0
