"""What a report tells beside its figures: why there is none, and what could be given for a better result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optc.request import Request

_CALIBRATE = (
    "without calibration data int8 is limited to products whose ranges are taken at run time, and to "
    "weights; calibration adds static ranges (convolutions in int8, fewer operations elsewhere), "
    "smoothing of outliers, and an error that is also taken on data that calibration did not see"
)


def notes(request: Request, samples: Sequence[Any], error: Mapping[str, Any]) -> dict[str, Any]:
    """``{"notes": [...]}`` for the whole, or nothing; ``error`` is that of the compiled model."""
    found = [f"not compared: {error['skipped']}"] if "skipped" in error else []
    if not (request.explicit or samples or all(step.exact for step in request.pipeline.passes)):
        found.append(_CALIBRATE)
    return {"notes": found} if found else {}
