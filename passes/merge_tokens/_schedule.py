"""How many tokens go at each place."""

from __future__ import annotations

import re

from optc.errors import UserError


def amounts(r: int, schedule: str, count: int) -> list[int]:
    """Tokens to remove at each of ``count`` places.

    Args:
        schedule: "constant"; "decreasing", from 2 r to 0 in equal steps, rounded down; or a list, "8,8,4",
            one number per place from the first on (places behind its end keep their tokens).

    Raises:
        UserError: it is none of these.
    """
    if schedule == "constant":
        return [r] * count
    if schedule == "decreasing":
        return [2 * r + (-2 * r * place) // max(count - 1, 1) for place in range(count)]
    numbers = listed(schedule)
    assert numbers is not None
    return [*numbers, *[0] * count][:count]


def listed(schedule: str) -> list[int] | None:
    """The numbers of a list; None for a schedule that is not one.

    Raises:
        UserError: it is neither a list nor a known name.
    """
    if schedule in ("constant", "decreasing"):
        return None
    if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", schedule):
        raise UserError(
            f"schedule={schedule!r} is not known",
            where="merge-tokens",
            hint='write constant, decreasing, or a list such as "8,8,4"',
        )
    return [int(part) for part in schedule.split(",")]


def chosen(layers: str, count: int) -> set[int]:
    """The layers that text such as ``"0-5, 8"`` names; all when it is empty.

    Raises:
        UserError: the text is malformed, or names a layer that the model does not have.
    """
    picked: set[int] = set()
    for part in filter(None, re.split(r"[\s,]+", layers)):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            hint = 'write numbers and ranges, such as "0-5, 8"'
            raise UserError(f"layers={layers!r} is malformed at {part!r}", where="merge-tokens", hint=hint)
        first, last = int(found[1]), int(found[2] or found[1])
        if last >= count or first > last:
            hint = f"the layers are 0 to {count - 1}"
            raise UserError(f"layers={layers!r}: there is no layer {part}", where="merge-tokens", hint=hint)
        picked.update(range(first, last + 1))
    return picked or set(range(count))


def stages(count: int) -> set[int]:
    """The layers that end the first three of four stages."""
    return {border for quarter in (1, 2, 3) if 0 < (border := count * quarter // 4) < count} or {0}
