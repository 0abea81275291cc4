"""Makes a failing case smaller while it fails in the same way, judged on its text form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import builder
from .case import Case, from_text, to_text

_NUMPY = {"tensor(float)": "float32", "tensor(double)": "float64"}

Fails = Callable[[Case], bool]


def shrink(case: Case, fails: Fails, *, attempts: int = 600) -> Case:
    """The smallest case found, a fixpoint of the steps below unless the attempts run out."""
    left = attempts

    def holds(candidate: Case) -> bool:
        nonlocal left
        left -= 1
        try:
            return fails(from_text(to_text(candidate)))
        except Exception:  # a candidate that is no model at all is no smaller case
            return False

    progress = True
    while progress and left > 0:
        progress = False
        for step in (_feeds, _passes, _outputs, _ends, _starts, _nodes, _lowerings, _dims, _numbers):
            for candidate in step(case):
                if left <= 0:
                    break
                if holds(candidate):
                    case, progress = candidate, True
                    break
    return from_text(to_text(case))


def _feeds(case: Case) -> Iterator[Case]:
    if len(case.feeds) > 1:
        yield from (replace(case, feeds=(feeds,)) for feeds in case.feeds)


def _passes(case: Case) -> Iterator[Case]:
    steps = case.pipeline.split(", ")
    for index in range(len(steps)):
        yield replace(case, pipeline=", ".join(steps[:index] + steps[index + 1 :]))


def _lowerings(case: Case) -> Iterator[Case]:
    for family in case.lowerings:
        yield replace(case, lowerings={k: v for k, v in case.lowerings.items() if k != family})


def _outputs(case: Case) -> Iterator[Case]:
    if len(case.model.graph.output) > 1:
        for index in range(len(case.model.graph.output)):
            model = _copy(case)
            del model.graph.output[index]
            yield _cleaned(case, model)


def _ends(case: Case) -> Iterator[Case]:
    """The graph up to the first value that is wrong, as its only output."""
    last = case.model.graph.node[-1].output if case.model.graph.node else ()
    for node in case.model.graph.node:
        if node.output[0] and node.output[0] not in last:
            model = _copy(case)
            del model.graph.output[:]
            model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
            yield _cleaned(case, _typed(model))


def _starts(case: Case) -> Iterator[Case]:
    """Many nodes at once: the first three quarters, half, quarter of the graph become constants."""
    count = len(case.model.graph.node)
    for part in (count * 3 // 4, count // 2, count // 4) if count > 4 else ():
        values = _values(case)
        model = _copy(case)
        outputs = {value.name for value in model.graph.output}
        for index in reversed(range(part)):
            results = [name for name in model.graph.node[index].output if name]
            if outputs & set(results) or any(name not in values for name in results):
                continue
            del model.graph.node[index]
            model.graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in results)
        yield _cleaned(replace(case, feeds=case.feeds[:1]), model)


def _nodes(case: Case) -> Iterator[Case]:
    """Each node's results become inputs fed with what it computed (or constants), last nodes first."""
    values = _values(case)
    for index in reversed(range(len(case.model.graph.node))):
        node = case.model.graph.node[index]
        results = [name for name in node.output if name]
        if any(name not in values for name in results):
            continue
        for as_constant in (True, False):
            if candidate := _cut(case, index, {name: values[name] for name in results}, as_constant):
                yield candidate


def _cut(case: Case, index: int, found: dict[str, np.ndarray], as_constant: bool) -> Case | None:
    model = _copy(case)
    outputs = {value.name for value in model.graph.output}
    del model.graph.node[index]
    feeds = dict(case.feeds[0])
    for name, array in found.items():
        if name in outputs:
            return None
        if as_constant:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
            feeds[name] = array
    return _cleaned(replace(case, feeds=(feeds,)), model)


def _values(case: Case) -> dict[str, np.ndarray]:
    """What every node of the main graph computes on the first feeds."""
    model = _copy(case)
    have = {value.name for value in model.graph.output}
    for node in model.graph.node:
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in node.output if n and n not in have)
    names = [value.name for value in model.graph.output]
    return dict(zip(names, builder.session(model).run(None, case.feeds[0]), strict=True))


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the types of its outputs, as ONNX Runtime finds them, and no shapes."""
    for value, found in zip(model.graph.output, builder.session(model).get_outputs(), strict=True):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(_NUMPY.get(found.type, found.type[7:-1])))
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, [None] * len(found.shape)))
    return model


def _cleaned(case: Case, model: onnx.ModelProto) -> Case:
    """Without the nodes, inputs and constants that nothing reads any more."""
    graph = model.graph
    while True:
        read = {n for node in graph.node for n in [*node.input, *builder.captured(node)]}
        read |= {value.name for value in graph.output}
        dead = [i for i, node in enumerate(graph.node) if not read & set(node.output)]
        if not dead:
            break
        for index in reversed(dead):
            del graph.node[index]
    for field in (graph.input, graph.initializer):
        for index in reversed(range(len(field))):
            if field[index].name not in read:
                del field[index]
    names = {value.name for value in graph.input}
    feeds = tuple({k: v for k, v in each.items() if k in names} for each in case.feeds)
    return replace(case, model=model, feeds=feeds)


def _dims(case: Case) -> Iterator[Case]:
    """Inputs with the sizes that they are fed with."""
    if len(case.feeds) != 1:
        return
    for index, value in enumerate(case.model.graph.input):
        if any(dim.dim_param for dim in value.type.tensor_type.shape.dim):
            model = _copy(case)
            array = case.feeds[0][value.name]
            kind = value.type.tensor_type.elem_type
            model.graph.input[index].CopyFrom(helper.make_tensor_value_info(value.name, kind, array.shape))
            yield replace(case, model=model)


def _numbers(case: Case) -> Iterator[Case]:
    """Feeds and constants of ones, or of counting numbers."""
    for number, feeds in enumerate(case.feeds):
        for name, array in feeds.items():
            for simpler in _simpler(array):
                changed = [*case.feeds[:number], {**feeds, name: simpler}, *case.feeds[number + 1 :]]
                yield replace(case, feeds=tuple(changed))
    for index, tensor in enumerate(case.model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            for simpler in _simpler(array):
                model = _copy(case)
                model.graph.initializer[index].CopyFrom(numpy_helper.from_array(simpler, tensor.name))
                yield replace(case, model=model)


def _simpler(array: np.ndarray) -> Iterator[np.ndarray]:
    if array.dtype.kind != "f" or array.size < 2:
        return
    counting = (np.arange(array.size, dtype=np.float64) % 7 - 2).reshape(array.shape).astype(array.dtype)
    for simpler in (np.ones_like(array), counting):
        if array.tobytes() in (np.ones_like(array).tobytes(), counting.tobytes()):
            return
        yield simpler


def _copy(case: Case) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    return model
