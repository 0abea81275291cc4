"""ai.onnx.RotaryEmbedding turns what the body of the function turns, and shares tables between calls."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fused_calls import assert_lowers, call_model, legalized, ops

from optc.capture.opset import newest_opset
from optc.codegen.ort.kernels import has_kernel
from optc.passes.fuse import rotary

NEWEST = newest_opset() or 0
pytestmark = pytest.mark.skipif(
    not has_kernel("", "RotaryEmbedding", NEWEST, {"T": ir.DataType.FLOAT}),
    reason="the installed ONNX Runtime has no CPU kernel of RotaryEmbedding",
)


def call(
    width: int,
    size: int,
    *,
    interleaved: int = 0,
    batch: int | str = "b",
    table: int | str = 1,
    heads: int | str = 3,
    calls: int = 1,
    code: str = "f",
    opset: int = NEWEST,
) -> ir.Model:
    inputs = {
        "x": (code, (batch, heads, "s", size)),
        "cos": (code, (table, "s", width // 2)),
        "sin": (code, (table, "s", width // 2)),
    }
    body = rotary._body(width, size, bool(interleaved))
    attributes = {"interleaved": interleaved, "rotary_dim": width}
    output = (code, (batch, heads, "s", size))
    return call_model("RotaryEmbedding", inputs, body, attributes, [output], opset=opset, calls=calls)


def feeds(width: int, size: int, *, b: int = 2, table: int = 1, s: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(width + size)
    shapes = {"x": (b, 3, s, size), "cos": (table, s, width // 2), "sin": (table, s, width // 2)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("width,size", [(8, 8), (6, 6), (2, 2), (4, 10), (6, 7), (32, 64)])
@pytest.mark.parametrize("b,s", [(1, 1), (2, 5), (3, 1)])
def test_turns_alike(width: int, size: int, interleaved: int, b: int, s: int) -> None:
    lowered = assert_lowers(call(width, size, interleaved=interleaved), feeds(width, size, b=b, s=s))
    assert ops(lowered) == ["Shape", "Concat", "Expand", "Expand", "RotaryEmbedding"]


def test_tables_of_the_batch_go_in_as_they_are() -> None:
    lowered = assert_lowers(call(4, 6, table="b"), feeds(4, 6, b=3, table=3))
    assert ops(lowered) == ["RotaryEmbedding"]
    assert ops(assert_lowers(call(4, 6, batch=1), feeds(4, 6, b=1))) == ["RotaryEmbedding"]


def test_tables_are_repeated_once_for_all_layers() -> None:
    lowered = assert_lowers(call(8, 8, calls=3), feeds(8, 8))
    assert ops(lowered).count("Expand") == 2 and ops(lowered).count("RotaryEmbedding") == 3


@pytest.mark.parametrize(
    "options,reason",
    [
        ({"code": "e"}, "x is float16"),
        ({"table": "c"}, "not known to have the batch of x"),
        ({"heads": "n"}, "dimension 1 of x is not known"),
        ({"opset": 20}, "no CPU kernel of ai.onnx.RotaryEmbedding"),
    ],
    ids=str,
)
def test_what_is_not_known_to_fit_is_inlined(options: dict[str, object], reason: str) -> None:
    lowered, report = legalized(call(8, 8, **options))
    assert "RotaryEmbedding" not in ops(lowered) and "Concat" in ops(lowered)
    assert [reason in skip.reason for skip in report.skipped] == [True]
