"""Calling what the user wrote: a mistake in it is the user's, not a defect of optc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optc.errors import OptcError, UserError


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Makes a UserError of whatever the code inside raises, with the line in the user's file.

    Args:
        what: what the user's code is, for the message: "the metric".
    """
    try:
        yield
    except OptcError:
        raise
    except Exception as error:
        from optc.capture.provenance import user_line  # capture reads calibration data, as this does

        raise UserError(
            f"{what} failed: {type(error).__name__}: {error}",
            where=user_line(error),
            hint="fix the error there",
        ) from error
