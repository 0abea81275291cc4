"""The errors of optc: what the user did, and what a pass broke."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optc.trail import Rewrite


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


class WrongRewrite(VerifyError):
    """A rewrite of an exact pass changed what the graph computes (exit code 1).

    Args:
        step: name of the pass.
        rewrite: the rewrite, with the nodes that it started from and the user's line.
        what: what differs, and on which sample.
    """

    def __init__(self, step: str, rewrite: Rewrite, what: str) -> None:
        self.step, self.rewrite, self.what = step, rewrite, what
        lines = [
            f"pass {step!r}: the rewrite {rewrite.name!r} (number {rewrite.number}) is wrong: {what}",
            f"  nodes: {', '.join(rewrite.nodes) or 'none'}",
        ]
        if rewrite.source:
            lines.append(f"  where: {rewrite.source}")
        super().__init__("\n".join(lines))
