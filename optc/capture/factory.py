"""``package.module:factory`` and ``path/file.py:factory``: code that makes the model to capture."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from optc.errors import UserError

from .provenance import user_line

_RETURNS = "return (nn.Module, example_inputs) or (nn.Module, example_inputs, dynamic_shapes)"


@dataclass(frozen=True)
class Made:
    """What a factory returned."""

    module: Any  # torch.nn.Module
    example_inputs: Any
    dynamic_shapes: Any = None


def call_factory(text: str) -> Made:
    """Imports the module that ``text`` names, and calls its factory: this executes the user's code.

    What it draws from torch's generator is the same in every process, or random weights would be others in
    each; the generator is left as it was.

    Raises:
        UserError: the module or function is missing, fails, or returns something else.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factory = resolve(text, "factory")
        try:
            returned = factory()
        except (Exception, SystemExit) as error:
            raise _failed(f"the factory {text.rpartition(':')[2]!r} failed", text, error) from error
    return _checked(returned, text)


def resolve(text: str, what: str = "function") -> Callable[..., Any]:
    """The function that ``package.module:name`` or ``path/file.py:name`` names; this executes the module.

    Args:
        what: what the function is, for error messages.

    Raises:
        UserError: the module or function is missing, or the module cannot be imported.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        hint = "write package.module:name or path/file.py:name"
        raise UserError(f"a {what} is named by a module and a function", where=text, hint=hint)
    module = _load(place, text)
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{place} has no {what} {name!r}", where=text, hint=_similar(module, name))
    if not callable(found):
        kind = type(found).__name__
        raise UserError(
            f"{name!r} is of type {kind}, not a function", where=text, hint=_similar(module, name)
        )
    return found  # type: ignore[no-any-return]


def _load(place: str, text: str) -> ModuleType:
    path = Path(place)
    is_file = place.endswith(".py") or "/" in place
    if is_file and not path.is_file():
        raise UserError("there is no such file", where=place, hint=_similar_files(path))
    try:
        return _load_file(path) if is_file else _import(place)
    except ModuleNotFoundError as error:
        if not is_file and error.name and (place == error.name or place.startswith(f"{error.name}.")):
            hint = (
                "is it installed, and is the working directory right? A file is written path/file.py:factory"
            )
            raise UserError(f"there is no module {error.name!r}", where=text, hint=hint) from error
        raise _failed(f"{place} cannot be imported", text, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(f"{place} cannot be imported", text, error) from error


def _import(name: str) -> ModuleType:
    """Imports from the working directory too, as ``python -m`` does."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        return importlib.import_module(name)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _load_file(path: Path) -> ModuleType:
    """Executes the file as a module of its own name; its neighbours can be imported, as in a script."""
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    shadowed = sys.modules.get(path.stem)
    if shadowed is None:  # dataclasses and pickling look a class's module up there
        sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if shadowed is None:
            sys.modules.pop(path.stem, None)
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _checked(returned: Any, text: str) -> Made:
    import torch

    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        got = (
            f"a tuple of {len(returned)}"
            if isinstance(returned, tuple)
            else f"an object of type {type(returned).__name__}"
        )
        raise UserError(f"the factory returned {got}", where=text, hint=_RETURNS)
    if not isinstance(returned[0], torch.nn.Module):
        what = (
            f"the first thing that the factory returned is a {type(returned[0]).__name__}, not an nn.Module"
        )
        raise UserError(what, where=text, hint=_RETURNS)
    return Made(*returned)


def _failed(what: str, text: str, error: BaseException) -> UserError:
    line = user_line(error)
    if isinstance(error, SyntaxError):  # a file that is no text at all has no line
        line = f"{error.filename}:{error.lineno}" if error.lineno else None
    return UserError(
        f"{what}: {type(error).__name__}: {error}", where=line or text, hint="fix the error there"
    )


def _similar(module: ModuleType, name: str) -> str:
    functions = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    close = difflib.get_close_matches(name, functions, n=1)
    return f"did you mean {close[0]!r}?" if close else "check the name, or define it there"


def _similar_files(path: Path) -> str:
    folder = path.parent
    names = sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / close[0]}?" if close else "check the path"
