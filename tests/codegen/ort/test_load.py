"""Programs that the runtime does not load: one message, with the place once."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from optc.codegen.ort import runtime
from optc.errors import UserError

TEXT = '<ir_version: %d, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = %s(x) }'
UNKNOWN_OPERATOR = onnx.parser.parse_model(TEXT % (10, "Nothing")).SerializeToString()
FROM_THE_FUTURE = onnx.parser.parse_model(TEXT % (99, "Relu")).SerializeToString()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (UNKNOWN_OPERATOR, "Nothing"),
        (FROM_THE_FUTURE, "IR version: 99"),
        (b"no model", "Protobuf parsing failed"),
    ],
    ids=["operator", "version", "bytes"],
)
def test_the_message_names_the_place_once(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        runtime.load(tmp_path, {"threads": 1})
    text = str(caught.value)
    assert text.count(str(path)) == 1 and caught.value.where == str(path)
    assert len(text.splitlines()) == 3, "what, where, what to do"
