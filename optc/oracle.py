"""Does a rewritten model still compute the same? Both run unoptimized in ONNX Runtime on the same inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.difference import Comparison, Difference, difference
from optc.errors import VerifyError
from optc.half import tolerances
from optc.holdout import Spread, Unseen
from optc.padded import Padding
from optc.session import ORT_ERRORS, open_session, run_session
from optc.spool import Spool

__all__ = ["Difference", "Oracle", "Skipped", "difference", "run"]

_RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True)
class Skipped:
    """Nothing was compared, and why."""

    reason: str


def run(model: ir.Model, feeds: Mapping[str, Any], *, optimize: bool = False) -> dict[str, Any]:
    """The outputs of ``model`` by name, by default exactly as written: no optimization, no prepacking."""
    return next(_run_all(model, [feeds], optimize=optimize))


class Oracle:
    """What the captured model answers to some inputs; every later state of it is held against that.

    Args:
        model: the captured model; it runs once here, and only the outputs are kept (in a file, if large).
        samples: feeds by input name, one dict per run; the differences are pooled over all of them.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Mapping[str, Any]]) -> None:
        self._samples = samples
        self._expected: Sequence[dict[str, Any]] = []
        self._tolerances = tolerances(model)
        self.skipped: Skipped | None = None
        if not self._samples:
            self.skipped = Skipped("there are no sample inputs")
        elif random_op_type := random_op(model):
            self.skipped = Skipped(f"the model draws random numbers ({random_op_type})")
        else:
            self._run_captured(model)

    def _run_captured(self, model: ir.Model) -> None:
        try:
            self._expected = Spool(_run_all(model, self._samples))
        except ORT_ERRORS as error:
            self.skipped = Skipped(f"the captured model fails on the sample inputs: {_first_line(error)}")

    def squares(self) -> dict[str, float]:
        """By name of a float output, the sum of its squares in one sample, at the mean of the samples."""
        sums: dict[str, float] = {}
        for outputs in self._expected:
            for name, value in outputs.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    finite = value[np.isfinite(value)].astype(np.float64)
                    sums[name] = sums.get(name, 0.0) + float(finite @ finite)
        return {name: total / len(self._expected) for name, total in sums.items()}

    def compare(self, model: ir.Model) -> Difference | Skipped:
        """How far the outputs of ``model`` are from those of the captured model, pooled over the samples.

        Raises:
            VerifyError: the captured model runs on the samples and this one does not.
        """
        found = self.judge(model)
        return found if isinstance(found, Skipped) else found[0]

    def judge(
        self, model: ir.Model, unseen: Collection[int] = (), padding: Padding | None = None
    ) -> tuple[Difference, Unseen | None] | Skipped:
        """As `compare`, and the error of the samples with the indices ``unseen`` by themselves.

        Answers at ``padding`` are left out.
        """
        if self.skipped is not None:
            return self.skipped
        comparison, apart = Comparison(self._tolerances), Spread()
        actual_outputs = _run_all(model, self._samples)
        try:
            for number, (expected, actual) in enumerate(zip(self._expected, actual_outputs, strict=True)):
                if padding is not None:
                    feeds = self._samples[number]
                    expected, actual = padding.without(feeds, expected), padding.without(feeds, actual)
                comparison.add(expected, actual)
                if unseen:
                    apart.add(expected, actual, unseen=number in unseen)
        except ORT_ERRORS as error:
            raise VerifyError(f"the model no longer runs in ONNX Runtime: {_first_line(error)}") from error
        return comparison.result(), apart.result()


def _run_all(
    model: ir.Model, samples: Sequence[Mapping[str, Any]], *, optimize: bool = False
) -> Iterator[dict[str, Any]]:
    session = open_session(model, optimize=optimize)
    for feeds in samples:
        yield run_session(session, feeds)


def random_op(model: ir.Model) -> str | None:
    """The op that makes two runs of the model differ, if there is one."""
    functions = [function.all_nodes() for function in model.functions.values()]
    for node in chain(model.graph.all_nodes(), *functions):
        if node.domain == "" and (node.op_type in _RANDOM_OPS or _is_training_dropout(node)):
            return str(node.op_type)
    return None


def _is_training_dropout(node: ir.Node) -> bool:
    if node.op_type != "Dropout" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    mode = ir.convenience.get_const_tensor(node.inputs[2])
    return mode is None or bool(mode.numpy().item())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
