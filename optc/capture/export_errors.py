"""What torch says when it cannot export a model, in a few lines and with the user's source line."""

from __future__ import annotations

import re

from optc.errors import CaptureError

from .narrowing import suggested_fixes
from .provenance import user_line

_BRANCH = "replace it by torch.cond, torch.where or torch._check, or make it an input of a fixed shape"
_DATA = (
    f"a branch or a size depends on data: {_BRANCH}; an argument that is the same in every call, such as a "
    "mask, can be left out or kept by the module as a buffer, whose values may decide"
)
_CACHE = 'leave the cache out: "use_cache": False among the example inputs, or model.config.use_cache = False'
_STATIC = "make that dimension static in dynamic_shapes, or change the line that needs its value"
_EAGER = (
    "run the model with the same example inputs; if that works, simplify this line, or what leads to it and "
    "asks whether it is traced (as transformers does, which then makes masks that it leaves out otherwise)"
)
_HINTS = {
    r"data-dependent|unbacked|Could not (guard|extract)": _DATA,
    r"Cache\b": _CACHE,
    r"'NoneType' object": "pass the arguments that the model makes up when they are left out, such as a mask",
    r"specialized|[Cc]onstraints violated|conflicts between user-specified": _STATIC,
    r"dynamic_shapes|dynamic shapes": "give dynamic_shapes the structure of the example inputs",
}

# Where torch turns from the reason to its internals, or to advice for its own developers.
_END = re.compile(
    r"Suggested fixes:|While executing|Original traceback|from user code|For more information|Caused by:"
    r"|\(unhinted:|\(Size-like|\(If you are|consider using data-dependent|If this type holds|See https?:"
    r"|The error above occurred|The following call raised|Developer debug"
)


def explained(error: BaseException, model: str) -> CaptureError:
    """The error to raise instead; chain it with ``from error`` for the full traceback."""
    text = str(error)
    fixes = suggested_fixes(text)
    hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), _EAGER)
    return CaptureError(
        f"torch.export cannot capture {model}: {_reason(text) or type(error).__name__}",
        where=user_line(error),
        hint=f"{hint} (torch suggests {'; '.join(fixes)})" if fixes else hint,
    )


def _reason(text: str) -> str:
    rest = re.sub(
        r"If you're using mark_dynamic.*?Dim\.AUTO\.|For more information, run with \S+\.", "", text
    )
    lines = [line.strip(" -") for line in _END.split(rest)[0].splitlines()]
    reason = " ".join([line for line in lines if line][:3]).strip()
    return reason if len(reason) < 400 else reason[:397] + "..."
