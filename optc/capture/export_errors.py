"""What torch says when it cannot export a model, in a few lines and with the user's source line."""

from __future__ import annotations

import re

from optc.errors import CaptureError

from .narrowing import suggested_fixes
from .provenance import user_line

_HINTS = (
    (r"data-dependent|GuardOnDataDependent|unbacked|Could not guard", "replace the data-dependent branch or size"
     " by torch.cond, torch.where or torch._check, or make it an input of a fixed shape"),
    (r"DynamicCache|Cache|past_key_values", "pass use_cache=False to the model (or its config): a cache object is"
     " no tensor"),
    (r"specialized|[Cc]onstraints violated|not equal to", "make that dimension static in dynamic_shapes, or fix the"
     " model code that needs its value"),
    (r"dynamic_shapes|dynamic shapes", "dynamic_shapes needs the structure of the example inputs"),
)  # fmt: skip


def explained(error: BaseException, model: str) -> CaptureError:
    """The error to raise instead; chain it with ``from error`` for the full traceback."""
    text = str(error)
    reason = _reason(error, text)
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, f"{type(error).__name__} {text}")), None)
    fixes = suggested_fixes(text)
    if fixes:
        hint = f"torch suggests {'; '.join(fixes)}"
    return CaptureError(
        f"torch.export cannot capture {model}: {reason}",
        where=user_line(error),
        hint=hint or "run the model eagerly with the same example inputs; if that works, simplify this line",
    )


def _reason(error: BaseException, text: str) -> str:
    text = text.partition("Suggested fixes:")[0]
    text = re.split(r"\n\s*(?:While executing|Original traceback|Traceback|Developer debug|For more info|from user code)", text)[0]
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")]
    reason = " ".join(lines[:3]) or type(error).__name__
    return reason if len(reason) < 400 else reason[:397] + "..."
