"""``torch.compile(..., options={...})``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from optc import checks
from optc.errors import UserError


@dataclass(frozen=True)
class Options:
    """How every graph is compiled; the names mean what they mean for `optc.compile`.

    Attributes:
        gate: measure what pays; off, since compiling happens in the middle of somebody's program.
        threads: None is `torch.get_num_threads()` when the graph is compiled.
        cache: False leaves the disk cache alone; a path is the directory to use instead of the user's.
        check: compare the first answer of a new executable with eager mode.
    """

    level: int = 1
    pipeline: str | None = None
    max_error: float | None = None
    gate: bool = False
    gate_seconds: float = 30.0
    seed: int = 0
    threads: int | None = None
    target_options: Mapping[str, Any] = field(default_factory=dict)
    cache: bool | str = True
    check: bool = True

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None) -> Options:
        """Checks the names and types of ``options``.

        Raises:
            UserError: there is no such option, or its value cannot be one.
        """
        for name, value in (given or {}).items():
            if name not in _TYPES:
                raise UserError(
                    f"the backend has no option {name!r}", where=_WHERE, hint=_nearest(str(name), _TYPES)
                )
            if not _fits(value, _TYPES[name]) or (isinstance(value, str) and "\0" in value):
                what = f"the option {name!r} cannot be {value!r}"
                raise UserError(what, where=_WHERE, hint=f"give {_spelled(_TYPES[name])}")
        options = cls(**(given or {}))
        try:
            checks.numbers(
                seed=options.seed,
                threads=options.threads,
                gate_seconds=options.gate_seconds,
                max_error=options.max_error,
            )
        except UserError as error:
            raise UserError(error.what, where=_WHERE, hint=error.hint) from None
        return options

    def check_pipeline(self) -> None:
        """Raises UserError if there is no such level, pass, or target option."""
        from optc import registry
        from optc.pipeline import Pipeline

        target = registry.find_target("cpu")
        target.check_options(self.target_options)
        if self.pipeline is not None:
            Pipeline.parse(self.pipeline)
            return
        usable = sorted(level for level in target.pipelines if level != 3)
        if self.level not in usable:
            what = f"the option 'level' cannot be {self.level}"
            if self.level == 3:
                what += ": level 3 needs calibration data, which a graph of torch.compile does not have"
            levels = ", ".join(str(level) for level in usable)
            raise UserError(what, where=_WHERE, hint=f"levels: {levels}; or use optc.compile")

    def allowed_error(self) -> float | None:
        """What a result may differ by from eager mode; None is what rounding explains."""
        if self.level < 2 and self.pipeline is None:
            return None
        return 0.5 if self.max_error is None else 1.5 * self.max_error

    def key(self) -> str:
        """What decides on the executable, as text that is the same in every process."""
        values = asdict(self)
        for name in ("cache", "check"):
            del values[name]
        if not self.gate:  # else its measurements depend on them
            del values["threads"]
        return repr(sorted(values.items()))


_WHERE = 'options of torch.compile(backend="optc")'
_NONE = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "level": (int,),
    "pipeline": (str, _NONE),
    "max_error": (float, int, _NONE),
    "gate": (bool,),
    "gate_seconds": (float, int),
    "seed": (int,),
    "threads": (int, _NONE),
    "target_options": (Mapping,),
    "cache": (bool, str),
    "check": (bool,),
}
assert set(_TYPES) == {f.name for f in fields(Options)}


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types)


def _spelled(types: tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text", Mapping: "a dict"}
    return " or ".join(names.get(kind, "None") for kind in types)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(sorted(known))}"
