"""Average pools whose sums are divided by a number of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import nn as _nn

from .literals import number


def _divided(stock: Callable[..., Any], axes: int) -> Callable[..., Any]:
    """The stock translation takes no notice of the divisor."""

    def avg_pool(
        self: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        sizes, padding = ([*each] * axes if len(each) == 1 else [*each] for each in (kernel_size, padding))
        if divisor_override is None:
            return stock(self, sizes, stride, padding, ceil_mode, count_include_pad)
        if ceil_mode:  # the runtime divides by less where a window ends beyond the padding
            raise NotImplementedError("an average pool with a divisor of its own and ceil_mode")
        mean = stock(self, sizes, stride, padding, False, True)
        return op.Mul(mean, number(math.prod(sizes) / divisor_override, self))

    return avg_pool


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.avg_pool2d.default: _divided(_nn.aten_avg_pool2d, 2),
    torch.ops.aten.avg_pool3d.default: _divided(_nn.aten_avg_pool3d, 3),
}
