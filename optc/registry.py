"""Finding passes, fusion patterns and targets by file name, and those of other packages by entry point."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from optc.errors import UserError
from optc.passbase import Pass
from optc.target import Target


def pass_names() -> list[str]:
    """Names of all passes, without importing any of them."""
    return _names("passes")


def target_names() -> list[str]:
    """Names of all targets, without importing any of them."""
    return _names("targets")


def find_pass(name: str) -> type[Pass]:
    """The pass class called ``name``; UserError with the nearest name when there is none."""
    found = _load("passes", "pass", name)
    if isinstance(found, type):
        return _checked(found, name)
    for value in vars(found).values():
        if inspect.isclass(value) and issubclass(value, Pass) and value.__dict__.get("name") == name:
            return value
    raise UserError(
        f"the file of the pass {name!r} defines no pass of that name",
        where=str(getattr(found, "__file__", found)),
        hint=f'give the Pass subclass in it `name: ClassVar[str] = "{name}"`',
    )


def find_target(name: str) -> Target:
    """The target called ``name``; UserError with the nearest name when there is none."""
    found = _load("targets", "target", name)
    target = found if isinstance(found, Target) else getattr(found, "TARGET", None)
    if not isinstance(target, Target):
        raise UserError(
            f"the file of the target {name!r} defines no target",
            where=str(getattr(found, "__file__", found)),
            hint="bind a Target to the module's name TARGET",
        )
    return target


def submodules(package: ModuleType) -> list[ModuleType]:
    """All modules directly inside ``package`` whose names do not start with an underscore, by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names what is nearest to ``name``, and all that is known when that is short."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}known: {', '.join(known)}" if known else guess.strip()


def _names(group: str) -> list[str]:
    package = importlib.import_module(f"optc.{group}")
    own = {m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"}
    return sorted(own | set(_plugins(group, own)))


def _plugins(group: str, own: set[str]) -> dict[str, EntryPoint]:
    plugins: dict[str, EntryPoint] = {}
    for point in _entry_points(f"optc.{group}", tuple(sys.path)):
        other = plugins.get(point.name)
        if point.name in own or other is not None:
            owner = other.value if other is not None else f"optc.{group}"
            raise UserError(
                f"two packages provide {point.name!r}",
                where=f"entry point group optc.{group}: {owner} and {point.value}",
                hint="uninstall one of them",
            )
        plugins[point.name] = point
    return plugins


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Of the packages on ``path``, which is sys.path: asking all that are installed takes milliseconds."""
    return tuple(entry_points(group=group))


def _load(group: str, what: str, name: str) -> ModuleType | type | Target:
    known = _names(group)
    if name not in known:
        raise UserError(f"there is no {what} called {name!r}", hint=did_you_mean(name, known))
    package = importlib.import_module(f"optc.{group}")
    own = {m.name.replace("_", "-"): m.name for m in pkgutil.iter_modules(package.__path__)}
    if name in own:
        return importlib.import_module(f"optc.{group}.{own[name]}")
    loaded: ModuleType | type | Target = _plugins(group, set(own))[name].load()
    return loaded


def _checked(found: type, name: str) -> type[Pass]:
    if not issubclass(found, Pass):
        raise UserError(f"the entry point {name!r} is not a Pass", where=f"{found!r}")
    return found
