"""The `cast` pass: half precision, where the target computes in it, or else where it stores weights."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option

from .compute import narrow_computation
from .storage import round_weights

TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class Cast(Pass):
    """Computes in half precision where the target does so, and stores the weights in it elsewhere."""

    name: ClassVar[str] = "cast"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True
    to: Literal["fp16", "bf16"] = option("fp16", "the half-precision type")
    keep: str = option(
        "", "regular expression: nodes and weights whose own or bias's name has it keep their precision"
    )

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Inputs and outputs of the model stay as they are.

        Raises:
            UserError: ``keep`` is not a regular expression, or the model does not run on the samples.
        """
        try:
            kept = re.compile(self.keep) if self.keep else None
        except re.error as error:
            what = f"{self.keep!r} is not a regular expression: {error}"
            raise UserError(what, where="option keep of cast") from None
        if TYPES[self.to] in ctx.target.precisions:
            report = narrow_computation(model, TYPES[self.to], kept, ctx)
        else:
            report = round_weights(model, TYPES[self.to], kept, ctx.trail)
        if kept is None or any("kept by" in skip.reason for skip in report.skipped):
            return report
        told = Skip("keep", f"no node or weight that would change has a name with {self.keep!r}")
        return dataclasses.replace(report, skipped=(*report.skipped, told))
