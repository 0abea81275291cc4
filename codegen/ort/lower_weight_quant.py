"""Products with packed weights on ONNX Runtime's CPU kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import kernel_rounding, match
from optc.codegen.ort.build import Builder, Refuse
from optc.codegen.ort.lowering import lowering, need_kernel

_INT8_COMPUTE = 4  # accuracy_level: rows of the input are rounded to int8 block by block
_BITS = {ir.DataType.UINT4: 4, ir.DataType.INT4: 4, ir.DataType.UINT8: 8, ir.DataType.INT8: 8}
_SIGNED = {ir.DataType.INT4, ir.DataType.INT8}


@lowering("WeightQuantLinear", "MatMulNBits", "weight-quant")
def matmul_nbits(b: Builder) -> list[ir.Value]:
    """com.microsoft.MatMulNBits, which reads the codes as they are.

    It computes in int8 where a pass has allowed that, else in float: the graph of a model that came with such
    weights says so.
    """
    bits, codes, scales, zeros = _weights(b)
    need_kernel(b, "MatMulNBits", contrib=True, T1=b.dtype("x"), T2=ir.DataType.UINT8)
    columns, rows = codes.shape
    block = int(b.attribute("block_size"))
    name, out = str(b.arg("w").name), b.result()
    inputs = [
        b.arg("x"),
        b.weight(
            ir.tensor(_packed(_padded(codes, block), bits).reshape(columns, -1, block * bits // 8)), name
        ),
        b.weight(ir.tensor(np.ascontiguousarray(scales)), f"{name}_scales"),
        None if zeros is None else b.weight(ir.tensor(_packed(zeros, bits)), f"{name}_zeros"),
        None,
        b.args.get("bias"),
    ]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"K": rows, "N": columns, "bits": bits, "block_size": block}
    if kernel_rounding.is_allowed(b.arg("w")):
        attrs["accuracy_level"] = _INT8_COMPUTE
    b.insert("MatMulNBits", inputs, [out], attrs=attrs, contrib=True)
    return [out]


def _weights(b: Builder) -> tuple[int, np.ndarray, np.ndarray, np.ndarray | None]:
    """Bits, unsigned codes [N, K], scales and zero points [N, blocks]; None: all the middle."""
    if b.dtype("x") != ir.DataType.FLOAT:
        raise Refuse(f"the input is {b.dtype('x')}, not float32")
    bits, block = _BITS.get(b.dtype("w")), int(b.attribute("block_size"))
    if bits is None:
        raise Refuse(f"the codes are {b.dtype('w')}: the kernel takes integers of 4 or 8 bits")
    if block < 16 or block & (block - 1):
        raise Refuse(f"blocks of {block}: the kernel takes powers of two from 16")
    codes, scales, zeros = (match.constant(b.args.get(name)) for name in ("w", "scale", "zero"))
    if codes is None or scales is None or (zeros is None and "zero" in b.args):
        raise Refuse("the codes, scales or zero points are not constants")
    middle = 2 ** (bits - 1) if b.dtype("w") in _SIGNED else 0
    if zeros is None and not middle:
        zeros = np.zeros(scales.shape, np.uint8)  # without any, the kernel would take the middle
    turned = bool(b.attribute("transB", 0))
    return (
        bits,
        _unsigned(codes, middle, turned),
        _turned(scales, turned),
        None if zeros is None else _unsigned(zeros, middle, turned),
    )


def _unsigned(codes: np.ndarray, middle: int, turned: bool) -> np.ndarray:
    return _turned((codes.astype(np.int16) + middle).astype(np.uint8), turned)


def _turned(array: np.ndarray, turned: bool) -> np.ndarray:
    return np.ascontiguousarray(array if turned else array.T)


def _padded(codes: np.ndarray, block: int) -> np.ndarray:
    """Rows filled up to whole blocks: the kernel does not look at what is beyond K."""
    return np.pad(codes, ((0, 0), (0, -codes.shape[1] % block)))


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8, two codes in a byte where they have 4 bits: the first in the lower half."""
    if bits == 8:
        return np.ascontiguousarray(codes)
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return np.ascontiguousarray(even[:, ::2] | (even[:, 1::2] << 4))
