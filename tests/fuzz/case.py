"""A fuzz case, and its text form: what went wrong, the pipeline, the feeds, and the model as ONNX text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy)
import numpy as np
import onnx
import onnx.parser
import onnx.printer
from onnx import numpy_helper

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A model, feeds to compare it on, a pipeline, and decisions per family of fused functions."""

    model: onnx.ModelProto
    feeds: tuple[Feeds, ...]
    pipeline: str
    lowerings: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def to_text(case: Case) -> str:
    """Tensors go before the model with all their digits, which ONNX text does not keep."""
    bare = onnx.ModelProto()
    bare.CopyFrom(case.model)
    lines = [f"# {line}" for line in case.note.splitlines()]
    lines.append(f"pipeline: {case.pipeline}")
    lines += [f"lowering: {family} = {name}" for family, name in sorted(case.lowerings.items())]
    for tensor in bare.graph.initializer:
        lines.append(f"constant {_tensor(tensor.name, numpy_helper.to_array(tensor))}")
    del bare.graph.initializer[:]
    for number, feeds in enumerate(case.feeds):
        lines += [f"feed {number} {_tensor(name, array)}" for name, array in feeds.items()]
        if not feeds:
            lines.append(f"feed {number}")
    return "\n".join([*lines, "---", onnx.printer.to_text(bare).strip(), ""])


def from_text(text: str) -> Case:
    head, _, body = text.partition("---\n")
    model = onnx.parser.parse_model(body)
    pipeline, note = "", []
    lowerings: dict[str, str] = {}
    feeds: dict[int, Feeds] = {}
    for line in head.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "#":
            note.append(rest)
        elif kind == "pipeline:":
            pipeline = rest
        elif kind == "lowering:":
            family, _, name = rest.partition(" = ")
            lowerings[family] = name
        elif kind == "constant":
            name, array = _parsed(rest)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        elif kind == "feed":
            number, _, tensor = rest.partition(" ")
            feeds.setdefault(int(number), {})
            if tensor:
                name, array = _parsed(tensor)
                feeds[int(number)][name] = array
    return Case(model, tuple(feeds[n] for n in sorted(feeds)), pipeline, lowerings, "\n".join(note))


def _tensor(name: str, array: np.ndarray) -> str:
    numbers = " ".join(str(int(x)) if array.dtype.kind in "iub" else _digits(x) for x in array.reshape(-1))
    dims = ",".join(map(str, array.shape))
    return f"{name}: {array.dtype.name}[{dims}] {numbers}".rstrip()


def _digits(x: np.generic) -> str:
    write = np.format_float_scientific if 0 < abs(x) < 1e-4 else np.format_float_positional
    return write(x, trim="-")


def _parsed(text: str) -> tuple[str, np.ndarray]:
    name, _, rest = text.partition(": ")
    kind, _, numbers = rest.partition("]")
    dtype, _, dims = kind.partition("[")
    shape = [int(d) for d in dims.split(",") if d]
    made = np.dtype(dtype)
    values = [int(x) if made.kind in "iub" else float(x) for x in numbers.split()]
    wide = np.int64 if made.kind == "i" else None if values else made
    return name, np.array(values, wide).astype(made).reshape(shape)
