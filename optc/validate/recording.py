"""What every value of the main graph holds when the model runs on samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.shapes import constant_tensor
from optc.session import ORT_ERRORS, open_session, run_session
from optc.spool import Spool
from optc.validate.variants import Sample


class Recording:
    """Runs the model as it is, unoptimized, once per sample.

    Samples that it fails on are left out, those whose sizes do not fit each other, which ONNX Runtime
    overlooks where something is empty, and those on which a result has another shape than the model declares:
    a rewrite may rely on that. Large values go to a temporary file. What a rewrite puts in the place
    of a value gets its contents.
    """

    def __init__(self, model: ir.Model, samples: Iterable[Sample], threads: int | None = None) -> None:
        self.samples: list[Sample] = []
        self._spool = Spool()
        self._rows: dict[ir.Value, list[int]] = {}
        values = [value for node in model.graph for value in node.outputs if value.name]
        declared = [value for value in model.graph.outputs if value.producer() is not None and value.name]
        joined = [node for node in model.graph if node.op_type == "Concat" and node.domain == ""]
        try:
            session = open_session(_with_outputs(model, values), optimize=False, threads=threads)
        except ORT_ERRORS:
            return  # a value that cannot be an output: nothing is known, and the validator says so
        for sample in samples:
            try:
                results = run_session(session, sample.feeds)
            except ORT_ERRORS:
                continue
            known = {**sample.feeds, **results}
            if not all(_fit(node, known) for node in joined):
                continue
            if not all(_is_as_declared(value, results[str(value.name)]) for value in declared):
                continue
            self.samples.append(sample)
            for value in values:
                self._append(value, results[str(value.name)])
            for value in model.graph.inputs:
                if value.name in sample.feeds:
                    self._append(value, sample.feeds[value.name])
                elif value.const_value is not None:
                    self._append(value, value.const_value.numpy())

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._rows or constant_tensor(value) is not None

    def of(self, value: ir.Value, sample: int) -> Any:
        """What ``value`` holds on a sample, by its index in ``samples``."""
        if value in self._rows:
            return self._spool[self._rows[value][sample]]["value"]
        tensor = constant_tensor(value)
        assert tensor is not None
        return tensor.numpy()

    def add(self, value: ir.Value, contents: Iterable[Any]) -> None:
        """Notes what a value holds, one after the other sample."""
        self._rows.pop(value, None)
        for each in contents:
            self._append(value, each)

    def share(self, new: ir.Value, old: ir.Value) -> None:
        """From now on ``new`` holds what ``old`` does."""
        if old in self._rows and new not in self:
            self._rows[new] = self._rows[old]

    def values(self) -> Mapping[ir.Value, Any]:
        """All values that were recorded."""
        return self._rows

    def _append(self, value: ir.Value, contents: Any) -> None:
        self._rows.setdefault(value, []).append(len(self._spool))
        self._spool.append({"value": contents})


def _fit(node: ir.Node, known: Mapping[str, Any]) -> bool:
    """Whether the parts of a Concat have equal sizes beside its axis."""
    shapes = [_sizes(value, known) for value in node.inputs if value is not None]
    found = [shape for shape in shapes if shape is not None]
    axis = node.attributes.get_int("axis", 0)
    return len({(*shape[:axis], *shape[axis:][1:]) for shape in found}) < 2


def _is_as_declared(output: ir.Value, result: Any) -> bool:
    if output.shape is None or not isinstance(result, np.ndarray):
        return True
    sizes = [dim if isinstance(dim, int) else None for dim in output.shape]
    return len(sizes) == result.ndim and all(
        size in (None, actual) for size, actual in zip(sizes, result.shape, strict=True)
    )


def _sizes(value: ir.Value, known: Mapping[str, Any]) -> tuple[int, ...] | None:
    if (name := str(value.name)) in known:
        sizes: tuple[int, ...] = np.shape(known[name])
        return sizes
    tensor = constant_tensor(value)
    return None if tensor is None else tuple(tensor.shape.numpy())


def _with_outputs(model: ir.Model, values: Iterable[ir.Value]) -> ir.Model:
    copy = model.clone()
    known = {value.name for value in copy.graph.outputs}
    made = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.extend(made[value.name] for value in values if value.name not in known)
    return copy
