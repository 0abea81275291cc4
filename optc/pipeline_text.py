"""The grammar of pipeline text: ``name{option=value, option="quoted"}``, separated by commas."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from optc import registry
from optc.errors import UserError
from optc.passbase import Pass

_TOKEN = re.compile(r'\s*(?:(?P<word>[^\s{}=,"]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<mark>[{}=,]))')
_PLAIN_WORD = re.compile(r'[^\s{}=,"]+\Z')


@dataclasses.dataclass
class _Tokens:
    text: str
    items: list[tuple[str, int]]
    next: int = 0

    def peek(self) -> str | None:
        return self.items[self.next][0] if self.next < len(self.items) else None

    def take(self, wanted: str) -> str:
        token = self.peek()
        is_mark = token is not None and token in "{}=,"
        if token is None or (is_mark and token != wanted) or (not is_mark and wanted in "{}=,"):
            raise self.error(f"expected {wanted!r}" if wanted in "{}=," else f"expected {wanted}")
        self.next += 1
        return token

    def error(self, what: str) -> UserError:
        position = self.items[self.next][1] if self.next < len(self.items) else len(self.text)
        found = self.peek() or "the end"
        return UserError(
            f"the pipeline text is malformed: {what}, found {found!r}",
            where=f"{self.text}\n         {' ' * position}^",
            hint='write it like: simplify, fuse, quantize{scheme=auto, exclude="head"}',
        )


def parse(text: str) -> Iterator[Pass]:
    """The passes that ``text`` names, with their options; empty text is an empty pipeline."""
    tokens = _tokenize(text)
    while tokens.peek() is not None:
        name = tokens.take("the name of a pass")
        yield build(name, dict(_options(tokens)))
        if tokens.peek() is not None:
            tokens.take(",")
            if tokens.peek() is None:
                raise tokens.error("expected the name of a pass")


def write(step: Pass) -> str:
    """Text that :func:`parse` reads back into an equal pass."""
    options = ", ".join(f"{key}={write_value(value)}" for key, value in step.options().items())
    return f"{step.name}{{{options}}}" if options else step.name


def build(name: str, options: dict[str, Any]) -> Pass:
    """A pass from its name and options by their text names; values may be text."""
    found = registry.find_pass(name)
    hints = typing.get_type_hints(found)
    fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(found)}
    values = {}
    for key, value in options.items():
        if key not in fields:
            hint = registry.did_you_mean(key, fields) or "it has no options"
            raise UserError(f"the pass {name!r} has no option {key!r}", where=name, hint=hint)
        values[fields[key].name] = _convert(value, hints[fields[key].name], f"{name}{{{key}={value}}}")
    return found(**values)


def _tokenize(text: str) -> _Tokens:
    items: list[tuple[str, int]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            broken = _Tokens(text, [*items, (text[position], position)], len(items))
            raise broken.error("a quote is not closed")
        group = found.lastgroup or "word"
        items.append((found.group(group), found.start(group)))
        position = found.end()
    return _Tokens(text, items)


def _options(tokens: _Tokens) -> Iterator[tuple[str, str]]:
    if tokens.peek() != "{":
        return
    tokens.take("{")
    seen = set[str]()
    while tokens.peek() != "}":
        key = tokens.take("the name of an option")
        if key in seen:
            raise UserError(f"the option {key!r} is given twice", where=tokens.text, hint="give it once")
        seen.add(key)
        tokens.take("=")
        value = tokens.take("a value")
        yield key, re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if tokens.peek() != "}":
            tokens.take(",")
    tokens.take("}")


def write_value(value: Any) -> str:
    """The value of an option as text."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    text = str(value)
    if _PLAIN_WORD.match(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _convert(value: Any, wanted: Any, where: str) -> Any:
    """``value`` as the type of the option; UserError says what fits."""
    if typing.get_origin(wanted) is Literal:
        choices = [str(choice) for choice in typing.get_args(wanted)]
        if str(value) not in choices:
            hint = registry.did_you_mean(str(value), choices)
            raise UserError(f"{value!r} is not a value of this option", where=where, hint=hint)
        return typing.get_args(wanted)[choices.index(str(value))]
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        return _convert_any(value, typing.get_args(wanted), where)
    if wanted is bool:
        if str(value).lower() not in ("true", "false"):
            raise UserError(f"{value!r} is not true or false", where=where, hint="write true or false")
        return str(value).lower() == "true"
    try:
        return wanted(value)
    except (TypeError, ValueError):
        raise UserError(f"{value!r} is not {_article(wanted)}", where=where, hint="give a number") from None


def _convert_any(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if type(None) in choices and str(value).lower() == "none":
        return None
    wanted = [choice for choice in choices if choice is not type(None)]
    for choice in wanted[:-1]:
        try:
            return _convert(value, choice, where)
        except UserError:
            continue
    return _convert(value, wanted[-1], where)


def _article(wanted: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text"}
    return names.get(wanted, f"a {getattr(wanted, '__name__', wanted)}")
