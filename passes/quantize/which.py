"""Which products and tables are quantized, and why others stay in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from optc.analysis import shapes
from optc.passbase import Skip
from optc.passes.fuse._bias import biases

from . import tables
from .asked import Asked
from .static.sites import Site, find


def sites(model: ir.Model, asked: Asked, left: Mapping[str, str], skips: list[Skip]) -> list[Site]:
    """What is quantized, in graph order; what is not goes to ``skips``.

    Args:
        left: sites that stay in float, by name, with the reason.
    """
    shapes.infer(model)
    every, found = find(model)
    skips += found
    leave, chosen = leave_site(asked, left), []
    for site in every:
        if (reason := leave(site)) is not None:
            skips.append(Skip(site.name, f"left in float: {reason}"))
        else:
            chosen.append(site)
    return chosen


def site_names(model: ir.Model, asked: Asked, left: Mapping[str, str]) -> list[str]:
    """The names of the sites that are quantized."""
    return [site.name for site in sites(model, asked, left, [])]


def table_names(model: ir.Model, asked: Asked, left: Mapping[str, str]) -> list[str]:
    """The names of the tables that are quantized."""
    leave, found = leave_table(asked, left), tables.find(model)[0]
    return [table.name for table in found if all(leave(name) is None for name in table.names)]


def leave_site(asked: Asked, left: Mapping[str, str]) -> Callable[[Site], str | None]:
    """Tells why a site stays in float; None where it does not."""
    excluded = _excluded(asked)

    def leave(site: Site) -> str | None:
        if (reason := next(filter(None, map(excluded, _names(site))), None)) is not None:
            return reason
        if site.is_convolution and asked.scheme != "int8-static":
            return "dynamic int8 convolutions are slow; int8-static needs calibration data"
        return left.get(site.name)

    return leave


def _names(site: Site) -> list[str]:
    return [site.name, str(site.weight.name), *(str(bias.name) for bias in biases(site.node))]


def leave_table(asked: Asked, left: Mapping[str, str]) -> Callable[[str], str | None]:
    """The same of a table, by its name or that of a lookup."""
    excluded = _excluded(asked)
    return lambda name: excluded(name) or left.get(name)


def _excluded(asked: Asked) -> Callable[[str], str | None]:
    exclude = asked.exclude

    def excluded(name: str) -> str | None:
        if exclude is None or not exclude.search(name):
            return None
        return f"excluded by {exclude.pattern!r}"

    return excluded
