"""Which feeds of a case mean something."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from optc.session import ORT_ERRORS

from . import builder
from .case import Case, Feeds


class Invalid(Exception):
    """ONNX Runtime cannot run the model itself: nothing to hold anything against."""


def usable(case: Case) -> list[Feeds]:
    """The feeds that the model runs on and that ONNX gives a meaning to.

    Raises:
        Invalid: there are none.
    """
    joined = [node for node in case.model.graph.node if node.op_type == "Concat"]
    parts = {name for node in joined for name in node.input}
    constants = {tensor.name: np.empty(tensor.dims) for tensor in case.model.graph.initializer}
    try:
        bare = builder.session(case.model)
        session = builder.session(_showing(case.model, parts)) if joined else bare
    except ORT_ERRORS as error:
        raise Invalid(str(error)) from error
    names = [value.name for value in session.get_outputs()]
    found = []
    for feeds in case.feeds:
        with contextlib.suppress(*ORT_ERRORS):
            bare.run(None, feeds)  # the runtime may remove a Cast that a branch reads, if it is not an output
            values = {**constants, **feeds, **dict(zip(names, session.run(None, feeds), strict=True))}
            if all(_fit(node, values) for node in joined):
                found.append(feeds)
    if not found:
        raise Invalid("no feeds run")
    return found


def _fit(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    """Whether the parts of a Concat have equal sizes beside its axis; those of empty parts nobody checks."""
    shapes = [np.shape(values[name]) for name in node.input]
    axis = helper.get_node_attr_value(node, "axis")
    return len({(*shape[:axis], *shape[axis:][1:]) for shape in shapes}) == 1


def _showing(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model with more outputs: those of these values that nodes compute."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shown = {value.name for value in copy.graph.output}
    made = (name for node in copy.graph.node for name in node.output)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name in names - shown)
    return copy
