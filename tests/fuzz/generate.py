"""One random case from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from optc import registry

from . import attention, builder, control, draws, elementwise, idioms, linear, movement
from .builder import Builder
from .case import Case, Feeds

GROUPS = (
    (elementwise.MOVES, 5),
    (movement.MOVES, 5),
    (linear.MOVES, 3),
    (idioms.MOVES, 3),
    (attention.MOVES, 1),
    (control.MOVES, 1),
)
PIPELINES = (
    *("simplify", "simplify, fuse", "simplify, fuse", "fuse", "fuse, simplify", "fuse, fuse"),
    *("simplify, fuse, simplify, fuse", "simplify{fold-limit=0}, fuse", "simplify, simplify", ""),
)
LOSSY = (
    *(
        "quantize",
        "simplify, quantize, fuse",
        "simplify, fuse, quantize",
        "simplify, quantize, simplify, fuse",
    ),
    *("quantize{scheme=int8-dynamic}, fuse", "simplify, quantize{scheme=int8-static}, fuse"),
    *("simplify, fuse, skip-layers{method=uniform, ratio=0.5, protect=false}, simplify, fuse",),
)
OPSETS = (14, 17, 18, 20, 21, 23)


@dataclass(frozen=True)
class Recipe:
    """What decides a case."""

    seed: int
    moves: int = 12
    pipeline: str | None = None


def case(recipe: Recipe) -> Case | None:
    """The case of a recipe; None when nothing that it asks for can be built."""
    rng = random.Random(recipe.seed)
    b = Builder(rng, rng.choice(OPSETS))
    for _ in range(rng.randint(1, 3)):
        _input(b)
    if rng.random() < 0.5:
        b.attempt(lambda b: b.input(draws.array(rng, (), np.bool_)))
    emphasis = rng.choice((*GROUPS, None))
    groups = [group for group, _ in GROUPS]
    weights = [
        weight * (6 if emphasis is not None and group is emphasis[0] else 1) for group, weight in GROUPS
    ]
    for _ in range(recipe.moves):
        [group] = rng.choices(groups, weights)
        b.attempt(rng.choice(group))
    outputs = _outputs(b)
    if not outputs:
        return None
    feeds = [{name: b.known[name] for name in b.inputs}]
    proto = _model(b, outputs)
    feeds += [other for _ in range(2) if (other := _other_sizes(b)) is not None]
    pipeline = rng.choice(LOSSY if b.chance(0.15) else PIPELINES)
    if recipe.pipeline is not None:
        pipeline = recipe.pipeline
    return Case(proto, tuple(feeds), pipeline, _lowerings(rng))


def _lowerings(rng: random.Random) -> dict[str, str]:
    """Some families get another lowering than the first, or none."""
    if rng.random() < 0.5:
        return {}
    families = registry.find_target("cpu").families
    return {
        family: rng.choice(sorted(["inline", *names]))
        for family, names in sorted(families.items())
        if rng.random() < 0.5
    }


def _input(b: Builder) -> None:
    shape = draws.shape(b.rng)
    kind = b.rng.choice(
        (np.float32, np.float32, np.float32, np.float64, np.float16, np.int64, np.bool_, np.int32)
    )
    b.input(draws.array(b.rng, shape, kind, special=0.15), _dims(b, shape))


def _dims(b: Builder, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Some dims get a name, equal sizes the same. None is ever empty: shape inference counts on it."""
    if b.chance(0.5):
        return shape
    return tuple(f"d{size}" if size and b.chance(0.6) else size for size in shape)


def _outputs(b: Builder) -> list[str]:
    """What nothing reads, and now and then an intermediate, an input, a constant, or one that is read too."""
    read = {name for node in b.nodes for name in [*node.input, *builder.captured(node)]}
    made = [name for node in b.nodes for name in node.output if name]
    found = [name for name in made if name not in read]
    if b.rng.random() < 0.5:
        found = found[-3:]
    if made and b.chance(0.4):
        found.append(b.rng.choice(made))
    if b.chance(0.08):
        found.append(b.rng.choice(sorted(b.inputs)))
    if b.constants and b.chance(0.08):
        found.append(b.rng.choice(sorted(b.constants)))
    return list(dict.fromkeys(found))


def _model(b: Builder, outputs: list[str]) -> onnx.ModelProto:
    inputs = [_info(name, b.known[name], dims) for name, dims in b.inputs.items()]
    results = [
        _info(name, b.known[name], b.inputs.get(name, [None] * b.known[name].ndim)) for name in outputs
    ]
    reached = {name for node in b.nodes for name in [*node.input, *builder.captured(node)]} | set(outputs)
    constants = {name: array for name, array in b.constants.items() if name in reached or b.chance(0.1)}
    return builder.model(b.nodes, inputs, results, constants, b.opset)


def _info(name: str, array: np.ndarray, dims: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), list(dims))


def _other_sizes(b: Builder) -> Feeds | None:
    """Feeds with other sizes of the named dims, and other numbers."""
    sizes: dict[str, int] = {}
    feeds: Feeds = {}
    for name, dims in b.inputs.items():
        for dim in dims:
            if isinstance(dim, str):
                sizes.setdefault(dim, b.rng.choice((1, 2, 3, 5)))
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in dims]
        feeds[name] = draws.array(b.rng, shape, b.known[name].dtype, special=0.1)
    return feeds
