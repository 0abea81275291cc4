"""Many-to-many token transform: a few tokens that attention looks at most take up all others.

After "Token Transforming" (https://arxiv.org/abs/2506.05709), whose reduction is X' = M X with a dense M.
Here the rows of M are softmax(cosine of keys / temperature) of the chosen tokens against all, weighted by
what each stands for; columns of M say how the weight of a token is divided. Protected tokens stay themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import _prune
from ._prune import PruneForm
from ._text import FAR, constants, function, given, scalars, spread

_MUCH = 1e4  # more than any likeness, and than the logarithm of the size of padding
OUTPUTS = ("y", "new_size", "bias", "index", "place")


@dataclass(frozen=True)
class TransformForm:
    """``select`` says which tokens are chosen; ``heads_axis`` is the axis of heads in ``keys``."""

    select: PruneForm
    heads_axis: int
    sized: bool


def inputs(form: TransformForm) -> tuple[str, ...]:
    """The inputs of the body."""
    return (*_prune.inputs(form.select), "keys", *(("size",) if form.sized else ()))


def body(form: TransformForm) -> str:
    """``(x, q, k, mask?, flags?, keys, size?) => (y, new_size, bias, index, place)`` as ONNX text."""
    select = form.select
    first = "first, " if select.lead else ""
    lines = [
        *given(*_prune.attributes(select)),
        *constants(zero=[0], one=[1], two=[2], far=[FAR], heads=[form.heads_axis], as_row=[0, 1, 1, -1]),
        *_prune.selection(select),
        "metric = ReduceMean <keepdims: int = 0> (keys, heads)",
        "unit = LpNormalization <axis: int = -1, p: int = 2> (metric)",
        "chosen = GatherND <batch_dims: int = 1> (unit, kept)",
        "others = Slice (unit, lead, far, one)",
        "others_t = Transpose <perm: ints = [0, 2, 1]> (others)",
        "cosine = MatMul (chosen, others_t)",
        "temperature = Constant <value_float: float = @temperature> ()",
        "likeness_of_all = Div (cosine, temperature)",
        *_of_one_kind(form),
        *_weighed(form),
        "m = Softmax <axis: int = -1> (weighed)",
        "x_free = Slice (x, lead, far, one)",
        "mixed = MatMul (m, x_free)",
        *(["first = Slice (x, zero, lead, one)"] if select.lead else []),
        f"y = Concat <axis: int = 1> ({first}mixed)",
        "column = ReduceSum <keepdims: int = 1> (m, one)",
        "tiny = Constant <value_float: float = 1e-30> ()",
        "column_safe = Max (column, tiny)",
        "divided = Div (m, column_safe)",
        *_sizes(form),
        "size_safe = Max (joined_size, tiny)",
        "new_size = Identity (size_safe)",
        "flat = Reshape (new_size, as_row)",
        "bias = Log (flat)",
        *scalars(),
        *(spread("first_index", "lead", "zero", 1) if select.lead else ()),
        f"index = Concat <axis: int = 1> ({'first_index, ' if select.lead else ''}kept)",
        "nearest = ArgMax <axis: int = 1, keepdims: int = 0> (m)",
        "nearest_column = Unsqueeze (nearest, two)",
        "behind = Add (nearest_column, lead)",
        f"place = Concat <axis: int = 1> ({'first_index, ' if select.lead else ''}behind)",
    ]
    return function(inputs(form), OUTPUTS, lines)


def _of_one_kind(form: TransformForm) -> list[str]:
    """Padding that is chosen, where there is little else, takes up no content, and content no padding."""
    if not form.select.padded:
        return ["likeness = Identity (likeness_of_all)"]
    return [
        "flags_chosen = GatherND <batch_dims: int = 1> (flags, kept)",
        "flags_free = Slice (flags, lead, far, one)",
        "flags_row = Transpose <perm: ints = [0, 2, 1]> (flags_free)",
        "difference = Sub (flags_chosen, flags_row)",
        "unlike = Abs (difference)",
        f"much = Constant <value_float: float = {_MUCH}> ()",
        "too_much = Mul (unlike, much)",
        "likeness = Sub (likeness_of_all, too_much)",
    ]


def _weighed(form: TransformForm) -> list[str]:
    if not form.sized:
        return ["weighed = Identity (likeness)"]
    return [
        "size_free = Slice (size, lead, far, one)",
        "log_size = Log (size_free)",
        "log_row = Transpose <perm: ints = [0, 2, 1]> (log_size)",
        "weighed = Add (likeness, log_row)",
    ]


def _sizes(form: TransformForm) -> list[str]:
    lead = form.select.lead
    if form.sized:
        lines = ["taken = MatMul (divided, size_free)"]
        first = ["first_size = Slice (size, zero, lead, one)"]
    else:
        lines = ["taken = ReduceSum <keepdims: int = 1> (divided, two)"]
        first = [
            "lead_shape_of = Slice (x, zero, lead, one)",
            "lead_ones = ReduceMean <keepdims: int = 1> (lead_shape_of, two)",
            "lead_none = Sub (lead_ones, lead_ones)",
            "unit_size = Constant <value_float: float = 1.0> ()",
            "first_size = Add (lead_none, unit_size)",
        ]
    if not lead:
        return [*lines, "joined_size = Identity (taken)"]
    return [*lines, *first, "joined_size = Concat <axis: int = 1> (first_size, taken)"]
