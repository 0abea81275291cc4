"""A batch of seeds in a worker process: checks each, and shrinks what fails in a way not seen before."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from . import check, generate, shrink
from .case import Case

_seen: set[str] = set()  # of this process: shrinking the same failure again would only cost time


@dataclass(frozen=True)
class Failure:
    key: str
    name: str
    case: Case


@dataclass
class Found:
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)


def search(seeds: Iterable[int]) -> Found:
    """Checks the cases of the seeds."""
    warnings.simplefilter("ignore", RuntimeWarning)
    found = Found()
    for seed in seeds:
        case = generate.case(generate.Recipe(seed))
        if case is None:
            found.counts["invalid"] += 1
            continue
        try:
            finding = check.check(case)
        except check.Invalid:
            found.counts["invalid"] += 1
            continue
        found.counts[finding.kind if finding else "ok"] += 1
        if finding is not None and (key := signature(finding)) not in _seen:
            _seen.add(key)
            found.failures.append(Failure(key, f"seed_{seed}", named(shrunk(case, finding), seed)))
    return found


def named(case: Case, seed: int) -> Case:
    return replace(case, note=f"{case.note}\nfound at seed {seed}")


def shrunk(case: Case, finding: check.Finding) -> Case:
    """A small case that fails in the same way, with what is wrong as its note."""
    key = signature(finding)

    def fails(candidate: Case) -> bool:
        again = check.check(candidate)
        return again is not None and signature(again) == key

    try:
        small = shrink.shrink(case, fails)
    except Exception as error:  # the failure matters more than its size
        return replace(case, note=f"{finding}\ncould not be made smaller: {error}")
    return replace(small, note=str(finding))


def signature(finding: check.Finding) -> str:
    """Equal for failures that look alike: names and numbers left out."""
    text = re.sub(r"at \S+$|'[^']*'|\([^)]*\)|[\d.e+-]+|\b[vcx]\d*\b", "#", str(finding))
    return re.sub(r"Name:.*", "", text)[:110]
