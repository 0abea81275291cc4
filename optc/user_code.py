"""Calling what the user wrote: a mistake in it is the user's, not a defect of optc."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from optc.errors import OptcError, UserError


@contextmanager
def user_code(what: str, known: Mapping[type[BaseException], str] | None = None) -> Iterator[None]:
    """Makes a UserError of whatever the code inside raises, with the line in the user's file.

    Args:
        what: what the user's code is, for the message: "the metric".
        known: for errors of our own that come through it, the message in front of their text.
    """
    try:
        yield
    except OptcError:
        raise
    except (Exception, SystemExit) as error:
        from optc.capture.provenance import user_line  # capture reads calibration data, as this does

        message, hint = f"{what} failed: {type(error).__name__}", "fix the error there"
        if known and type(error) in known:
            message, hint = known[type(error)], "check names, types and sizes of the inputs there"
        raise UserError(f"{message}: {error}", where=user_line(error), hint=hint) from error
