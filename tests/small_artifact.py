"""A small artifact, made from text without a capture, and the files of a directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from optc.artifact import Artifact
from optc.capture.signature import Signature
from optc.targets import cpu

TEXT = """<ir_version: 10, opset_import: ["": 18]>
g (float[B,4] x, float[B,4] other) => (float[B,4] total, float[B,4] gap)
{ total = Add(x, other) gap = Sub(x, other) }"""


@dataclass
class Source:
    """As much of a captured model as an artifact needs."""

    signature: Signature
    source_hash: str = "0" * 64


REPORT: dict[str, Any] = {
    "source": "x",
    "target": "cpu",
    "threads": 1,
    "passes": [],
    "final": {
        "matched": {},
        "error": None,
        "ms_before": None,
        "ms_after": None,
        "bytes_before": 0,
        "bytes_after": 0,
        "detail": {},
    },
}


def make(text: str = TEXT, **options: Any) -> Artifact:
    model = ir.from_proto(onnx.parser.parse_model(text))
    inputs, outputs = ([str(v.name) for v in vs] for vs in (model.graph.inputs, model.graph.outputs))
    captured: Any = Source(Signature.of_names(inputs, outputs))
    return Artifact.make(
        model,
        captured=captured,
        target=cpu.TARGET,
        pipeline="simplify",
        decisions={"gelu": "inline"},
        report=REPORT,
        options={"threads": 1, **options},
    )


X, OTHER = np.ones((3, 4), np.float32), np.full((3, 4), 2, np.float32)


def files(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}
