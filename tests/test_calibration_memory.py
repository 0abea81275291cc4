"""Calibration takes as much memory for hundreds of samples as for a few; live bytes are counted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

import optc
from optc.passbase import Feeds

_SIDE = 128  # 192 KiB of a sample


def _numbers(*shape: int, seed: int) -> str:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32).ravel()
    return f"float[{','.join(map(str, shape))}] w{seed} = {{{', '.join(map(str, values))}}}"


def model() -> ir.Model:
    return ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[1,3,{_SIDE},{_SIDE}] x) => (float[1,4,30,30] y)
            <{_numbers(4, 3, 4, 4, seed=0)}, {_numbers(4, 4, 3, 3, seed=1)}> {{
            c = Conv<strides=[4,4]>(x, w0)  r = Relu(c)  y = Conv(r, w1) }}""")


def samples(count: int) -> Iterator[Feeds]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {"x": rng.standard_normal((1, 3, _SIDE, _SIDE), np.float32)}


def quantized(count: int) -> None:
    optc.compile(
        model(),
        pipeline="simplify, quantize{scheme=int8-static}, fuse",
        calibration=samples(count),
        max_error=0.5,
        gate=False,
        threads=1,
    )


def peak(count: int) -> int:
    """Bytes alive at once, at most, while a model is quantized on ``count`` samples."""
    tracemalloc.start()
    quantized(count)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """60 samples are 11 MiB; 4 MiB of them may be held before all go to a file."""
    quantized(5)  # what is imported and cached on the way
    assert peak(60) < peak(5) + (5 << 20)
