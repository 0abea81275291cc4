"""What a command prints, and its exit code: 0 ok, 2 user error, 1 internal error, 130 interrupted."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import typer

from optc import jsontext
from optc.errors import OptcError, UserError

# typer carries its own click, so the base of its errors is reached through typer.
_ClickError: type[Exception] = next(t for t in typer.BadParameter.__mro__ if t.__name__ == "ClickException")

_INTERRUPTED, _STOPPED = 130, "optc: interrupted; nothing was written\n"
_HALF, _WIDEST = 600, 2000  # characters of a line
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def show(data: Any, as_json: bool, rendered: Callable[[], Any]) -> None:
    """Prints ``data`` as one JSON object, or what ``rendered`` makes of it.

    Raises:
        UserError: stdout cannot be written to, as on a full disk.
    """
    from rich.console import Console

    try:
        if as_json:
            sys.stdout.write(jsontext.dumps(data, indent=1) + "\n")
        else:
            # A pipe has no width of its own; 100 columns keep tables whole when the output is kept in a file.
            Console(width=None if sys.stdout.isatty() else 100).print(rendered())
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again when the interpreter closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"the output cannot be written: {error.strerror}", where="stdout") from None


def exit_code(command: Callable[[], Any], as_json: bool) -> int:
    """Runs a command; its errors go to stderr, and as JSON to stdout too if that was asked for."""
    try:
        result = command()
        if result == _INTERRUPTED:  # typer makes an exit code of Ctrl-C
            sys.stderr.write(_STOPPED)
        return result if isinstance(result, int) else 0
    except _ClickError as error:
        return _misused(error, as_json)
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write(_STOPPED)
        return _INTERRUPTED
    except UserError as error:
        _complain(error, as_json, "error")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _complain(_full(error), as_json, "error")
            return 2
        if os.environ.get("OPTC_DEBUG") or not isinstance(error, OptcError):
            traceback.print_exc()
        _complain(error, as_json, "internal error")
        sys.stderr.write(
            "  This is a defect of optc, not of your model. Please report it with the command line, "
            "the versions from `pip freeze`,\n  and the full trace (set OPTC_DEBUG=1).\n"
        )
        return 1


def _full(error: OSError) -> UserError:
    """What is written to on purpose says so itself; what is left is what weights lie in for the while."""
    what, where = f"a temporary file cannot be written: {error.strerror}", tempfile.gettempdir()
    return UserError(what, where=where, hint="make room there, or set TMPDIR to a folder with more")


def _misused(error: Any, as_json: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(f"{error}\n")
        return 0
    if as_json:
        message = error.format_message()
        _write_json("error", {"what": message, "where": None, "hint": None, "message": message})
    error.show()
    return 2


def _complain(error: Exception, as_json: bool, what: str) -> None:
    if as_json:
        details = {key: getattr(error, key, None) for key in ("what", "where", "hint")}
        _write_json(what.replace(" ", "_"), {**details, "message": str(error)})
    sys.stderr.write(_printable(f"optc: {what}: {error}\n"))


def _printable(message: str) -> str:
    """Names in a message come from files: what would steer a terminal is spelt out, and the middle of a long
    line is left out."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in message)
    lines = plain.split("\n")
    return "\n".join(
        each if len(each) <= _WIDEST else f"{each[:_HALF]} ... {each[-_HALF:]}" for each in lines
    )


def _write_json(key: str, details: dict[str, Any]) -> None:
    sys.stdout.write(jsontext.dumps({key: details}) + "\n")
