"""int8 products with a scale for each token: the numerics, for targets that have kernels for it.

ONNX Runtime has none on the CPU, where plain operators around its int8 product cost more than the smaller
error is worth (`docs/quantization.md`), so no scheme of `quantize` writes this. It is what a kernel is held
against: `product` says it in numpy, and `body` as the plain graph that a fused function stands for. The two
agree to the bit. Rows are rounded symmetrically, as in LLM.int8() without its outliers (Dettmers et al.,
2022).
"""

from __future__ import annotations

import numpy as np

LARGEST = 127  # code of a row: its largest magnitude
LEAST = 1e-12  # of the largest magnitude of a row: one of zeros has codes of 0


def codes_of_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes of ``x`` [..., K], float32, and the scale of each row, float32 [..., 1]."""
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(LEAST))
    scales = (largest / np.float32(LARGEST)).astype(np.float32)
    return np.rint(x / scales).astype(np.int8), scales


def product(
    x: np.ndarray, codes: np.ndarray, scales: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """``x W + b``, float32 [..., N]: sums are exact in int32, then scaled by row and by column.

    Args:
        x: float32 [..., K].
        codes: of W, int8 [K, N].
        scales: of its columns, float32 [N].
        bias: float32 [N].
    """
    rows, row_scales = codes_of_rows(x)
    sums = rows.astype(np.int32) @ codes.astype(np.int32)
    result = sums.astype(np.float32) * row_scales * scales
    return np.asarray(result if bias is None else result + bias)


def body(*, bias: bool) -> str:
    """The same as ONNX text, for a function of x, w, scale and bias; for operator set 18 and later."""
    lines = [
        "last = Constant <value_ints = [-1]> ()",
        f"least = Constant <value = float {{{LEAST!r}}}> ()",
        f"largest = Constant <value = float {{{LARGEST}.0}}> ()",
        "magnitudes = Abs(x)",
        "rows = ReduceMax <keepdims = 1> (magnitudes, last)",
        "bounded = Max(rows, least)",
        "row_scales = Div(bounded, largest)",
        "steps = Div(x, row_scales)",
        "rounded = Round(steps)",
        "codes = Cast <to = 3> (rounded)",
        "sums = MatMulInteger(codes, w)",
        "sums_float = Cast <to = 1> (sums)",
        "by_row = Mul(sums_float, row_scales)",
        f"{'product' if bias else 'y'} = Mul(by_row, scale)",
    ]
    if bias:
        lines.append("y = Add(product, bias)")
    names = ["x", "w", "scale", *(["bias"] if bias else [])]
    text = "\n".join(lines)
    return f"({', '.join(names)}) => (y) {{\n{text}\n}}"
