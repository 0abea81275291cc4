"""The errors of optc: what the user did, and what a pass broke."""

from __future__ import annotations


class OptcError(Exception):
    """Base of every error that optc raises on purpose."""


class UserError(OptcError):
    """The request or the input is wrong (exit code 2).

    Args:
        what: one sentence, what is wrong.
        where: the file, input, node or option it is about.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if hint:
            lines.append(f"  do:    {hint}")
        super().__init__("\n".join(lines))


class CaptureError(UserError):
    """The model cannot be turned into the IR."""


class InvalidModel(UserError):
    """A model file is broken, hostile, or not what it claims to be."""


class VerifyError(OptcError):
    """A pass left the IR in a state that breaks an invariant (exit code 1)."""
