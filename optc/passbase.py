"""What a pass is: a frozen dataclass whose fields are its options, and what it is given and gives back."""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import onnx_ir as ir

from optc.target import Target
from optc.trail import Trail

T = TypeVar("T")
Feeds = dict[str, Any]  # graph input name -> ndarray, list (sequence) or None (optional)


@dataclass(frozen=True)
class Skip:
    """A place that a pass looked at and left alone, and the reason."""

    node: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What one run of a pass did."""

    changed: bool
    matched: Mapping[str, int] = field(default_factory=dict)  # pattern or rewrite name -> count
    skipped: tuple[Skip, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, str] = field(default_factory=dict)  # made by timing; for `Context.decided`


def _silent(items: Iterable[Any], description: str) -> Iterable[Any]:
    return items


@dataclass
class Context:
    """Everything a pass may use besides the model; nothing is global.

    ``examples`` are feeds of the captured model (the first is the example input), ``calibration`` is what
    the user gave to calibrate with, and ``lowerings`` says per family which lowering legalize uses
    (``"inline"`` undoes the family, absent means the target's first). ``max_error``, and ``metric`` with
    ``max_drop``, are what the user allows lossy passes; None is not given. ``trail`` follows and
    limits the rewrites inside a pass.

    A pass that knows less without timing things on this machine may do so where ``times`` says so. What it
    decides by that goes into its report; ``decided`` is what passes reported when an earlier artifact was
    made, and is taken instead. ``learned`` is what a pass measured on the way, for when it is run again with
    less allowed: it may save work, but what comes out must not depend on it. Each pass has its own.
    """

    target: Target
    examples: Sequence[Feeds] = ()
    calibration: Sequence[Feeds] | None = None
    lowerings: Mapping[str, str] = field(default_factory=dict)
    max_error: float | None = None
    metric: Callable[..., float] | None = None
    max_drop: float | None = None
    times: bool = False
    decided: Mapping[str, str] | None = None
    seed: int = 0
    threads: int | None = None
    trail: Trail = field(default_factory=Trail)
    learned: dict[Hashable, Any] = field(default_factory=dict)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("optc"))
    progress: Callable[[Iterable[Any], str], Iterable[Any]] = _silent

    def once(self, key: Hashable, measure: Callable[[], T]) -> T:
        """What ``measure`` gives, which is asked once, however often the pass is run."""
        if key not in self.learned:
            self.learned[key] = measure()
        found: T = self.learned[key]
        return found


def option(default: T, meaning: str) -> T:
    """A field of a pass with what it means, for ``optc passes NAME``."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite of the whole model: verified IR in, verified IR out.

    Subclass it as a frozen dataclass in ``passes/<name>.py``. The fields are the options, in pipeline text
    (``my-pass{my-option=3}``) and in Python (``MyPass(my_option=3)``) alike; write them with :func:`option`.
    The first line of the class docstring is what ``optc passes`` shows.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True  # exact passes are held to float tolerance by the oracle
    plain: ClassVar[bool] = False  # needs a graph without optc functions
    chooses: ClassVar[bool] = False  # does less where Context.max_error is smaller

    @abstractmethod
    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Rewrites ``model`` in place."""

    def scaled(self, strength: float) -> Pass | None:
        """The same pass doing ``strength`` times as much, for the curve of what that costs and buys.

        0 does nothing, and 1 does as much as this one. None: the pass has no such thing.
        """
        return None

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, by their text name."""
        return {
            f.name.replace("_", "-"): getattr(self, f.name)
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        }
