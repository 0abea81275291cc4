"""ONNX text that the bodies of all methods share: how many tokens there are, and where they went."""

from __future__ import annotations

from collections.abc import Sequence

FAR = 2**63 - 1


def constants(**lists: Sequence[int]) -> list[str]:
    """1-D int64 constants."""
    return [
        f"{name} = Constant <value_ints: ints = [{', '.join(map(str, numbers))}]> ()"
        for name, numbers in lists.items()
    ]


def given(*names: str) -> list[str]:
    """1-D int64 constants that the call states as attributes of the same names."""
    return [f"{name} = Constant <value_ints: ints = @{name}> ()" for name in names]


def spread(name: str, count: str, offset: str, step: int) -> list[str]:
    """``name`` [B, count, 1]: offset + step * (0, 1, .. count - 1) for each of ``batch`` samples.

    Expects the 1-D ``batch``, ``one``, ``zero_scalar``, ``one_scalar``, ``outer``; offset and count are 1-D.
    """
    return [
        f"{name}_count = Squeeze ({count})",
        f"{name}_range = Range (zero_scalar, {name}_count, one_scalar)",
        f"{name}_step = Constant <value_ints: ints = [{step}]> ()",
        f"{name}_steps = Mul ({name}_range, {name}_step)",
        f"{name}_row = Add ({name}_steps, {offset})",
        f"{name}_column = Unsqueeze ({name}_row, outer)",
        f"{name}_sizes = Concat <axis: int = 0> (batch, {count}, one)",
        f"{name} = Expand ({name}_column, {name}_sizes)",
    ]


def scalars() -> list[str]:
    """What :func:`spread` expects, for samples like those of ``x`` [B, T, D]."""
    return [
        "batch = Shape <start: int = 0, end: int = 1> (x)",
        "zero_scalar = Constant <value_int: int = 0> ()",
        "one_scalar = Constant <value_int: int = 1> ()",
        "outer = Constant <value_ints: ints = [0, 2]> ()",
    ]


def function(inputs: Sequence[str], outputs: Sequence[str], lines: Sequence[str]) -> str:
    """The text of a body."""
    text = "".join(f"  {line}\n" for line in lines)
    return f"({', '.join(inputs)}) => ({', '.join(outputs)}) {{\n{text}}}"
