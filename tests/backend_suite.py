"""The conformance suites that ship inside the onnx package, as data for sweeps.

``iter_cases`` yields every case with its model and its data sets. ``plain_ort`` runs the untouched model in
ONNX Runtime and is the reference of the sweeps: a case that it cannot run, or gets wrong, is out of scope.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test import loader

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "light")

Feeds = dict[str, Any]  # name -> ndarray, list (sequence) or None (optional)


@dataclass(frozen=True)
class Case:
    """One conformance test: a model and the inputs and outputs that go with it."""

    kind: str
    name: str
    source: Path | onnx.ModelProto  # the generated node tests exist only in memory
    raw_sets: tuple[tuple[Sequence[Any], Sequence[Any]], ...] | None
    rtol: float = 1e-3
    atol: float = 1e-7

    def path(self, folder: Path) -> Path:
        """The model as a file: the shipped one, or one written into ``folder``."""
        if isinstance(self.source, Path):
            return self.source
        path = folder / f"{self.name}.onnx"
        path.write_bytes(self.source.SerializeToString())
        return path

    @cached_property
    def proto(self) -> onnx.ModelProto:
        return onnx.load(self.source) if isinstance(self.source, Path) else self.source

    @cached_property
    def data_sets(self) -> list[tuple[Feeds, list[Any]]]:
        """``(feeds by graph input name, expected outputs in graph output order)``."""
        graph = self.proto.graph
        held = {init.name for init in graph.initializer}
        # A data set may leave out inputs that have a default (an initializer of the same name).
        required = [value for value in graph.input if value.name not in held]
        sets = self.raw_sets if self.raw_sets is not None else self._sets_on_disk()
        loaded = []
        for inputs, outputs in sets:
            wanted = graph.input if len(inputs) == len(graph.input) else required
            feeds = {v.name: _load(x, v.type) for v, x in zip(wanted, inputs, strict=False)}
            loaded.append((feeds, [_load(y, v.type) for v, y in zip(graph.output, outputs, strict=True)]))
        return loaded

    def _sets_on_disk(self) -> Iterator[tuple[list[Any], list[Any]]]:
        assert isinstance(self.source, Path)
        if self.kind == "light":
            expected = self.source.with_name(self.source.stem + "_output_0.pb")
            yield self._light_inputs(), [expected.read_bytes()]
            return
        for folder in sorted(self.source.parent.glob("test_data_set_*")):
            yield tuple(
                [p.read_bytes() for p in sorted(folder.glob(f"{side}_*.pb"), key=_number)]
                for side in ("input", "output")
            )

    def _light_inputs(self) -> list[np.ndarray]:
        # The ramp that the suite's own runner feeds to the models without input files.
        held = {init.name for init in self.proto.graph.initializer}
        ramps = []
        for value in self.proto.graph.input:
            if value.name in held:
                continue
            shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            ramps.append((np.arange(count).reshape(shape) / count).astype(np.float32))
        return ramps


def iter_cases(kinds: Sequence[str] = KINDS) -> Iterator[Case]:
    """Every case of the named suites, in a fixed order."""
    for kind in kinds:
        if kind == "light":
            for path in sorted((Path(loader.DATA_DIR) / "light").glob("*.onnx")):
                yield Case("light", path.stem, path, None)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the suite provokes overflows on purpose
            tests = loader.load_model_tests(kind=kind)
        for test in sorted(tests, key=lambda t: t.name):
            source = test.model if test.model_dir is None else Path(test.model_dir) / "model.onnx"
            sets = None if test.data_sets is None else tuple(test.data_sets)
            yield Case(kind, test.name, source, sets, test.rtol, test.atol)


def plain_ort(case: Case) -> list[list[Any]] | None:
    """Outputs of the untouched model per data set, or None where ONNX Runtime cannot run it or is wrong."""
    try:
        session = open_plain(case.source if isinstance(case.source, Path) else case.proto.SerializeToString())
        results = [run_session(session, feeds) for feeds, _ in case.data_sets]
    except Exception:
        return None
    for (_, expected), found in zip(case.data_sets, results, strict=True):
        if any(mismatch(e, f, case.rtol, case.atol) for e, f in zip(expected, found, strict=True)):
            return None
    return results


def open_plain(model: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(session: ort.InferenceSession, feeds: Mapping[str, Any]) -> list[Any]:
    """Runs on numpy values, also of element types that ONNX Runtime's own ``run`` has no numpy type for."""
    declared = {value.name: value.type for value in session.get_inputs()}
    plain = all(not _is_odd(x) for x in feeds.values())
    if plain and not any("float8" in v.type or "bfloat16" in v.type for v in session.get_outputs()):
        return list(session.run(None, {k: v for k, v in feeds.items() if k in declared}))
    values = {k: _ort_value(v) for k, v in feeds.items() if k in declared}
    return [_from_ort(v) for v in session.run_with_ort_values(None, values)]


def mismatch(expected: Any, found: Any, rtol: float, atol: float) -> str | None:
    """Why two outputs are not the same, or None."""
    if expected is None or found is None:
        return None if expected is found else "one side is None"
    if isinstance(expected, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(expected) != len(found):
            return "sequence lengths differ"
        reasons = (mismatch(e, f, rtol, atol) for e, f in zip(expected, found, strict=True))
        return next((r for r in reasons if r), None)
    if isinstance(expected, dict):
        return None if expected == found else "maps differ"
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.dtype.kind in "OSU":
        return (
            None
            if [str(x) for x in expected.ravel()] == [str(x) for x in found.ravel()]
            else "strings differ"
        )
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{found.dtype}{found.shape} where {expected.dtype}{expected.shape} was expected"
    if expected.dtype.kind == "V" or expected.dtype.name.startswith(("float8", "bfloat16", "float4")):
        rtol, expected, found = max(rtol, 2**-6), expected.astype(np.float32), found.astype(np.float32)
    close = np.allclose(expected, found, rtol=rtol, atol=atol, equal_nan=expected.dtype.kind in "fc")
    return None if close else "values differ"


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _load(value: Any, declared: onnx.TypeProto) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, np.generic):  # some generated tests hold scalars
        return np.asarray(value)
    if not isinstance(value, bytes):
        return value
    if declared.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(value))
    if declared.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(value))
    return numpy_helper.to_array(onnx.TensorProto.FromString(value))


def _is_odd(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.isbuiltin != 1 and value.dtype.kind not in "OSUT"


def _ort_value(value: Any) -> ort.OrtValue:
    if _is_odd(value):
        code = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        raw = np.ascontiguousarray(value).view(np.dtype(f"u{value.dtype.itemsize}"))
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, code)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))


def _from_ort(value: ort.OrtValue) -> Any:
    if not value.is_tensor() or value.element_type() not in _ODD_TYPES:
        return value.numpy()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
    shape = tuple(value.shape())
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(ctypes.string_at(value.data_ptr(), count), dtype).reshape(shape)


_ODD_TYPES = frozenset({16, 17, 18, 19, 20, 24})  # bfloat16 and the one-byte floats
