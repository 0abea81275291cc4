"""Bodies of the attention functions, as ONNX text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class AttentionForm:
    """What the body of an Attention function depends on besides its attributes.

    ``kind`` is the element type of queries, keys and values, ``inner`` that of the softmax. ``scale_at`` says
    what the scale multiplies: ``q``, ``scores`` or (in the type of the softmax) ``inner``; "" for no scale.
    ``group`` query heads share one of ``kv_heads`` heads of keys and values. ``capped`` scores are
    softcap * tanh(scores / softcap). With ``sink`` one more logit per query takes part in the softmax.
    """

    opset: int
    kind: ir.DataType
    inner: ir.DataType
    scale_at: str
    mask: ir.DataType | None
    causal: bool
    safe: bool
    kv_heads: int = 1
    group: int = 1
    capped: bool = False
    sink: bool = False

    @property
    def signature(self) -> str:
        """The names of inputs and output."""
        optional = (", sink" if self.sink else "") + (", mask" if self.mask is not None else "")
        return f"(q, k, v{optional}) => (y)"


def attention(form: AttentionForm) -> str:
    """``softmax(scale * q @ k^T + mask) @ v`` on [batch, heads, length, size]."""
    return _text(form.signature, attention_lines(form, "q", "k", "v", "y"))


def multi_head(form: AttentionForm, heads: int, kv_heads: int, size: int, value_size: int) -> str:
    """Attention on [batch, length, heads * size], the heads split off before and merged after."""
    lines = []
    for name, count, width in (("q", heads, size), ("k", kv_heads, size), ("v", kv_heads, value_size)):
        lines += [
            f"{name}_sizes = Constant <value_ints: ints = [0, 0, {count}, {width}]> ()",
            f"{name}_split = Reshape ({name}, {name}_sizes)",
            f"{name}_by_head = Transpose <perm: ints = [0, 2, 1, 3]> ({name}_split)",
        ]
    lines += attention_lines(form, "q_by_head", "k_by_head", "v_by_head", "y_by_head")
    lines += [
        "y_split = Transpose <perm: ints = [0, 2, 1, 3]> (y_by_head)",
        f"y_sizes = Constant <value_ints: ints = [0, 0, {heads * value_size}]> ()",
        "y = Reshape (y_split, y_sizes)",
    ]
    return _text(form.signature, lines)


def form_of(call: ir.Node, function: ir.Function, opset: int) -> AttentionForm:
    """The form whose body :func:`attention` wrote for ``function``."""
    q, k = call.inputs[0], call.inputs[1]
    assert q is not None and k is not None and q.dtype is not None
    names = {output.name for node in function for output in node.outputs}
    wide = next((node for node in function if node.outputs[0].name == "wide"), None)
    marks = {"q_scaled": "q", "scores": "scores", "wide_scores": "inner"}
    heads = next((node for node in function if node.outputs[0].name == "heads"), None)
    repeats = [] if heads is None else [*heads.attributes["value_ints"].as_ints()]
    shared = len(set(repeats)) or 1
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    return AttentionForm(
        opset=opset,
        kind=q.dtype,
        inner=q.dtype if wide is None else ir.DataType(wide.attributes["to"].as_int()),
        scale_at=next((place for name, place in marks.items() if name in names), ""),
        mask=None if mask is None else mask.dtype,
        causal=bool(call.attributes["causal"].as_int()),
        safe=bool(call.attributes["safe"].as_int()),
        kv_heads=shared,
        group=len(repeats) // shared or 1,
    )


def attention_lines(form: AttentionForm, q: str, k: str, v: str, y: str) -> list[str]:
    """The statements that compute ``y`` from 4-D ``q``, ``k`` and ``v``."""
    lines = []
    if form.scale_at:
        lines.append("scale = Constant <value_float: float = @scale> ()")
    k, v = _repeated(form, k, v, lines)
    q = _scaled(form, "q", form.kind, q, "q_scaled", lines)
    lines += [f"kt = Transpose <perm: ints = [0, 1, 3, 2]> ({k})", f"product = MatMul ({q}, kt)"]
    scores = _capped(form, _scaled(form, "scores", form.kind, "product", "scores", lines), lines)
    early = form.mask == form.kind and form.mask != form.inner
    if early:
        scores = _masked(form, scores, lines)
    if form.inner != form.kind:
        lines.append(f"wide = Cast <to: int = {form.inner.value}> ({scores})")
        scores = _scaled(form, "inner", form.inner, "wide", "wide_scores", lines)
    if not early:
        scores = _masked(form, scores, lines)
    probabilities = _softmax(form, _causal(form, scores, lines), lines)
    lines.append(f"{y} = MatMul ({probabilities}, {v})")
    return lines


def _text(signature: str, lines: Iterable[str]) -> str:
    return signature + " {\n" + "".join(f"  {line}\n" for line in lines) + "}"


def _repeated(form: AttentionForm, k: str, v: str, lines: list[str]) -> tuple[str, str]:
    """Keys and values with each head repeated for the query heads that share it."""
    if form.group == 1:
        return k, v
    heads = ", ".join(str(head) for head in range(form.kv_heads) for _ in range(form.group))
    lines += [
        f"heads = Constant <value_ints: ints = [{heads}]> ()",
        f"k_heads = Gather <axis: int = 1> ({k}, heads)",
        f"v_heads = Gather <axis: int = 1> ({v}, heads)",
    ]
    return "k_heads", "v_heads"


def _scaled(form: AttentionForm, at: str, kind: ir.DataType, x: str, y: str, lines: list[str]) -> str:
    if form.scale_at != at:
        return x
    factor = "scale"
    if kind != ir.DataType.FLOAT:
        factor = "scale_cast"
        lines.append(f"scale_cast = Cast <to: int = {kind.value}> (scale)")
    lines.append(f"{y} = Mul ({x}, {factor})")
    return y


def _capped(form: AttentionForm, scores: str, lines: list[str]) -> str:
    if not form.capped:
        return scores
    return _append(
        lines,
        "cap_float = Constant <value_float: float = @softcap> ()",
        f"cap = Cast <to: int = {form.kind.value}> (cap_float)",
        f"part = Div ({scores}, cap)",
        "bent = Tanh (part)",
        "capped = Mul (bent, cap)",
    )


def _masked(form: AttentionForm, scores: str, lines: list[str]) -> str:
    if form.mask is None:
        return scores
    if form.mask == ir.DataType.BOOL:
        low = _number(form, "low", "-inf", lines)
        lines.append(f"masked = Where (mask, {scores}, {low})")
    else:
        lines.append(f"masked = Add ({scores}, mask)")
    return "masked"


def _causal(form: AttentionForm, scores: str, lines: list[str]) -> str:
    """Scores with -inf where a key comes after the query, counted from the first of each."""
    if not form.causal:
        return scores
    lines += ["zero_index = Constant <value_int: int = 0> ()", "one_index = Constant <value_int: int = 1> ()"]
    lines += [f"size = Shape ({scores})"]
    for name, axis in (("row", 2), ("column", 3)):
        lines += [
            f"{name}_axis = Constant <value_int: int = {axis}> ()",
            f"{name}_count = Gather (size, {name}_axis)",
            f"{name} = Range (zero_index, {name}_count, one_index)",
        ]
    low = "low" if form.mask == ir.DataType.BOOL else _number(form, "low", "-inf", lines)
    return _append(
        lines,
        "last = Constant <value_ints: ints = [1]> ()",
        "row_vertical = Unsqueeze (row, last)",
        "past = GreaterOrEqual (row_vertical, column)",
        f"causal_scores = Where (past, {scores}, {low})",
    )


def _append(lines: list[str], *more: str) -> str:
    """Appends statements and returns the name that the last one defines."""
    lines += more
    return more[-1].split(" = ")[0]


def _softmax(form: AttentionForm, scores: str, lines: list[str]) -> str:
    scores = _with_sink(form, scores, lines)
    result = _append(lines, f"attention = Softmax <axis: int = -1> ({scores})")
    if form.sink:
        result = _append(lines, f"key_attention = Slice ({result}, begin, end, end)")
    if form.safe:
        zero = _number(form, "zero", "0.0", lines)
        result = _append(lines, f"nan = IsNaN ({result})", f"safe_attention = Where (nan, {zero}, {result})")
    if form.inner != form.kind:
        result = _append(lines, f"weights = Cast <to: int = {form.kind.value}> ({result})")
    return result


def _with_sink(form: AttentionForm, scores: str, lines: list[str]) -> str:
    """Scores with the sink as their last column."""
    if not form.sink:
        return scores
    return _append(
        lines,
        "begin = Constant <value_ints: ints = [0]> ()",
        "end = Constant <value_ints: ints = [-1]> ()",
        "one = Constant <value_ints: ints = [1]> ()",
        f"score_sizes = Shape ({scores})",
        "row_sizes = Slice (score_sizes, begin, end)",
        "sink_sizes = Concat <axis: int = 0> (row_sizes, one)",
        "sinks = Expand (sink, sink_sizes)",
        f"joint = Concat <axis: int = -1> ({scores}, sinks)",
    )


def _number(form: AttentionForm, name: str, value: str, lines: list[str]) -> str:
    """A constant in the type of the softmax (masks are applied in another type only when they are added)."""
    if form.inner == ir.DataType.FLOAT:
        return _append(lines, f"{name} = Constant <value_float: float = {value}> ()")
    return _append(
        lines,
        f"{name}_float = Constant <value_float: float = {value}> ()",
        f"{name} = Cast <to: int = {form.inner.value}> ({name}_float)",
    )
