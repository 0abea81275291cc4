"""Lines of body text that compute a norm ``y`` of ``x``; half precision is computed in single."""

from __future__ import annotations

import onnx_ir as ir

from ._constants import literal

NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_ATTRIBUTES = "axis: int = @axis, epsilon: float = @epsilon, stash_type = 1"


def layer_norm(
    x: str, *, shift: bool, axis: int, epsilon: float, dtype: ir.DataType | None, opset: int
) -> str:
    """``y`` from ``x``, ``gamma`` and ``beta``: the ONNX op, or below opset 17 what ONNX Runtime fuses."""
    if opset >= 17:
        return f"y = LayerNormalization <{_ATTRIBUTES}> ({x}, gamma{', beta' if shift else ''})"
    wide = "x_wide" if dtype in NARROW else x
    inner = f"""{_mean("mean", wide, axis, opset)}
        d = Sub({wide}, mean)
        {_deviation("d", axis, epsilon, dtype, opset)}
        normal = Div(d, deviation)"""
    return _scaled(x, inner, dtype, shift)


def rms_norm(x: str, *, axis: int, epsilon: float, dtype: ir.DataType | None, opset: int) -> str:
    """``y`` from ``x`` and ``gamma``: the ONNX op, or below opset 23 what ONNX Runtime fuses."""
    if opset >= 23:
        return f"y = RMSNormalization <{_ATTRIBUTES}> ({x}, gamma)"
    wide = "x_wide" if dtype in NARROW else x
    inner = f"""{_deviation(wide, axis, epsilon, dtype, opset)}
        normal = Div({wide}, deviation)"""
    return _scaled(x, inner, dtype, shift=False)


def _deviation(d: str, axis: int, epsilon: float, dtype: ir.DataType | None, opset: int) -> str:
    single = ir.DataType.FLOAT if dtype in NARROW else dtype
    return f"""{literal("two", 2.0, single)}
        {literal("least", epsilon, single)}
        square = Pow({d}, two)
        {_mean("variance", "square", axis, opset)}
        moved = Add(variance, least)
        deviation = Sqrt(moved)"""


def _mean(name: str, x: str, axis: int, opset: int) -> str:
    axes = f"[{', '.join(str(a) for a in range(axis, 0))}]"
    if opset < 18:
        return f"{name} = ReduceMean <axes = {axes}, keepdims = 1> ({x})"
    over = f"{name}_axes = Constant <value_ints = {axes}> ()"
    return f"{over}\n{name} = ReduceMean <keepdims = 1> ({x}, {name}_axes)"


def _scaled(x: str, inner: str, dtype: ir.DataType | None, shift: bool) -> str:
    """``inner`` between the casts of half precision, then the scale and shift."""
    normal = "normal"
    if dtype in NARROW:
        assert dtype is not None
        enter = f"x_wide = Cast <to = {ir.DataType.FLOAT.value}> ({x})"
        inner = f"{enter}\n{inner}\nnarrow = Cast <to = {dtype.value}> (normal)"
        normal = "narrow"
    if not shift:
        return f"{inner}\ny = Mul({normal}, gamma)"
    return f"{inner}\nscaled = Mul({normal}, gamma)\ny = Add(scaled, beta)"
